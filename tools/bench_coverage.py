"""Measures how much of real networks onnx_scsp can cut, beside its rivals; writes docs/coverage.md.

A development tool. It needs torch (CPU), onnxscript and pytorchcv for the zoo, torch-pruning and
onnxsim for the comparison; what is missing is skipped and said so on the page.

    python tools/bench_coverage.py                      # everything that has no record yet
    python tools/bench_coverage.py --fresh --tools ours # after a change of onnx_scsp
    python tools/bench_coverage.py --render-only        # the page from the records
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.coverage

from tools.coverage.catalog import Network, networks  # noqa: E402
from tools.coverage.driver import Bench  # noqa: E402
from tools.coverage.equal import normalises, share_of_rival  # noqa: E402
from tools.coverage.page import render  # noqa: E402

VARIANTS = ("ts", "dy", "ts-bn", "dy-bn")
TOOLS = ("probe", "ours", "approximate", "tp", "onnxsim", "equal")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zoo", type=Path, default=ROOT / ".cache" / "coverage")
    parser.add_argument("--packages", type=Path, help="folder of unpacked packages with .onnx in")
    parser.add_argument("--variants", default="ts,dy,ts-bn", help=f"of {','.join(VARIANTS)}")
    parser.add_argument("--tools", default=",".join(TOOLS), help="tools to run")
    parser.add_argument("--only", default="", help="networks to run, by name")
    parser.add_argument("--limit", type=float, default=300, help="seconds that one task may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what has a record")
    parser.add_argument("--again", action="store_true", help="retry exports known to fail")
    parser.add_argument("--worktree", action="store_true", help="measure uncommitted code")
    parser.add_argument("--discard", action="store_true", help="delete exported files after use")
    parser.add_argument("--render-only", action="store_true", help="write the page, run nothing")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "coverage.md")
    return parser.parse_args()


def main() -> None:
    """Runs what is missing, variant by variant, and writes the page."""
    chosen = options()
    bench = Bench(
        chosen.zoo,
        chosen.limit,
        fresh=chosen.fresh,
        again=chosen.again,
        worktree=chosen.worktree,
    )
    if not chosen.render_only:
        only = {name for name in chosen.only.split(",") if name}
        nets = [
            net
            for net in networks(chosen.packages)
            if not only or net.name in only or net.label in only
        ]
        tools = chosen.tools.split(",")
        for place, variant in enumerate(chosen.variants.split(",")):
            for net in nets:
                _measure(bench, net, variant, tools, first=place == 0)
                if chosen.discard and not net.file:
                    bench.file(net, variant).unlink(missing_ok=True)
    chosen.page.write_text(render(bench.records))


def _measure(bench: Bench, net: Network, variant: str, tools: list[str], *, first: bool) -> None:
    """All tools on one file; the rivals see the first variant only."""
    if net.file:
        if not first:
            return
        variant = "as found"
    if not bench.ensure(net, variant):
        return
    for tool in tools:
        if tool == "approximate":
            if first and normalises(bench.records.get((net.label, variant, "ours"))):
                bench.measure(net, variant, tool)
        elif tool == "equal":
            share = share_of_rival(bench.records, net.label)
            if first and share is not None:
                bench.measure(net, variant, tool, ratio=share)
        elif tool in ("ours", "probe") or (first and not (tool == "tp" and net.file)):
            bench.measure(net, variant, tool)


if __name__ == "__main__":
    main()
