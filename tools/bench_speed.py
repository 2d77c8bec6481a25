"""Measures what pruning saves in the runtime, beside rivals at equal MACs; writes docs/speed.md.

A development tool. It needs torch (CPU), onnxscript, pytorchcv, torch-pruning and onnxsim. Stages:
`prune` makes the files (rivals' settings are searched until their MACs fit; what is there is kept),
`time` runs all files of a network interleaved, `cost` measures the tools as whole processes and as
models grow, `render` writes the page from the records.

    python tools/bench_speed.py                           # everything that has no record yet
    python tools/bench_speed.py --stage prune             # only the files
    python tools/bench_speed.py --stage time,render --fresh
    python tools/bench_speed.py --align 4,8               # these widths, beside the default
    python tools/bench_speed.py --stage cost --big        # with the model of 3 GB
    python tools/bench_speed.py --render-only
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.speed

from tools.speed.catalog import NETWORKS, Variant, variants  # noqa: E402
from tools.speed.driver import Bench, read_records  # noqa: E402

STAGES = ("prune", "time", "cost", "render")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--stage", default=",".join(STAGES), help="stages to run, in this order")
    parser.add_argument("--only", default="", help="networks, by name")
    parser.add_argument("--variants", default="", help="of ours,tp,tp-8,tp-16,onnxsim; all if none")
    parser.add_argument("--align", default="", help="values of --align beside the default")
    parser.add_argument("--spend-by", default="", help="values of --spend-by beside the default")
    parser.add_argument(
        "--ours",
        default="--no-synthetic",
        help="words for our command line; synthetic inputs tell nothing of random weights",
    )
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3, help="of every process of `cost`")
    parser.add_argument("--big", action="store_true", help="`cost` with a model of 3 GB, too")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "speed")
    parser.add_argument("--limit", type=float, default=900, help="seconds that one task may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what has a record")
    parser.add_argument("--again", action="store_true", help="try again what is known to fail")
    parser.add_argument("--worktree", action="store_true", help="measure uncommitted code")
    parser.add_argument("--preliminary", action="store_true", help="say so on the page")
    parser.add_argument("--render-only", action="store_true", help="the same as --stage render")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "speed.md")
    return parser.parse_args()


def words(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def main() -> None:
    """Runs the chosen stages."""
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a task never outlives its driver
    stages = ("render",) if chosen.render_only else words(chosen.stage)
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        sys.exit(f"error: stage '{unknown[0]}' is unknown; use some of {','.join(STAGES)}")
    every = variants(tuple(chosen.ours.split()), words(chosen.align), words(chosen.spend_by))
    only = words(chosen.variants)
    picked = [variant for variant in every if not only or variant.name in only]
    if set(stages) - {"render"}:
        _measure(chosen, stages, picked)
    if "render" in stages:
        from tools.speed.page import render

        records = read_records(chosen.cache / "records.jsonl")
        chosen.page.write_text(render(records, every, preliminary=chosen.preliminary))


def _measure(chosen: argparse.Namespace, stages: tuple[str, ...], picked: list[Variant]) -> None:
    bench = Bench(
        chosen.cache,
        chosen.limit,
        fresh=chosen.fresh,
        again=chosen.again,
        worktree=chosen.worktree,
    )
    names = words(chosen.only)
    nets = [net for net in NETWORKS if not names or {net.name, net.label} & set(names)]
    for net in nets:
        if {"prune", "time"} & set(stages) and bench.export(net):
            # what is there is kept, so before timing this is a look; rivals' MACs may be budgets
            for variant in sorted(picked, key=lambda variant: bool(variant.like)):
                bench.prune(net, variant)
    for net in nets:
        if "time" in stages and bench.dense(net).exists():
            for threads in words(chosen.threads):
                bench.time(net, picked, int(threads), chosen.rounds)
    if "cost" in stages:
        from tools.speed.cost import measure_all

        measure_all(bench, names, repeats=chosen.repeats, big=chosen.big)


if __name__ == "__main__":
    main()
