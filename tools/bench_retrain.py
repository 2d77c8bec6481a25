"""Retrains the CIFAR ResNets by every schedule at equal epochs; writes the figures of the page.

A development tool. It needs the retrain extra, pillow and matplotlib, and torch-pruning and
onnxscript for the rival. Runs that have a record are not run again, and a run that was killed goes
on from its last checkpoint.

    python tools/bench_retrain.py --data DIR --small         # about 20 minutes on two free cores
    python tools/bench_retrain.py --data DIR                 # everything; a GPU helps
    python tools/bench_retrain.py --data DIR --report        # the last 5,000 images, at the end
    python tools/bench_retrain.py --data DIR --render-only
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.retraining

from tools.retraining.catalog import SETTINGS  # noqa: E402
from tools.retraining.driver import Bench  # noqa: E402
from tools.retraining.page import render  # noqa: E402


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="images and networks")
    parser.add_argument("--trained", type=Path, default=ROOT / ".cache" / "accuracy" / "models")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "retrain")
    parser.add_argument("--small", action="store_true", help="one network, few images and epochs")
    parser.add_argument("--methods", default="", help="names of the catalogue, joined by commas")
    parser.add_argument("--networks", default="", help="the same of networks")
    parser.add_argument("--budgets", default="", help="shares of the MACs, joined by commas")
    parser.add_argument("--epochs", type=int, help="epochs of every method")
    parser.add_argument("--images", type=int, help="training images, at most 45000")
    parser.add_argument("--seeds", default="", help="joined by commas")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("32", "bf16"), default="32")
    parser.add_argument("--limit", type=float, default=7200, help="seconds that one run may take")
    parser.add_argument("--again", action="store_true", help="try again what failed")
    parser.add_argument("--report", action="store_true", help="measure on the last 5,000 images")
    parser.add_argument("--render-only", action="store_true", help="write the page, run nothing")
    parser.add_argument("--no-page", action="store_true", help="run only")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "retrain.md")
    chosen = parser.parse_args()
    if not chosen.no_page and not chosen.page.exists():
        parser.error(f"{chosen.page} does not exist; the figures go into a page that is there")
    return chosen


def main() -> None:
    """Runs what is missing, reports if asked to, writes the page."""
    chosen = options()
    setting = SETTINGS["small" if chosen.small else "full"]
    if chosen.networks:
        setting = replace(setting, networks=tuple(chosen.networks.split(",")))
    if chosen.budgets:
        setting = replace(setting, budgets=tuple(float(b) for b in chosen.budgets.split(",")))
    if chosen.seeds:
        setting = replace(setting, seeds=tuple(int(seed) for seed in chosen.seeds.split(",")))
    if chosen.epochs:
        setting = replace(setting, epochs=chosen.epochs)
    if chosen.images:
        setting = replace(setting, images=chosen.images)
    bench = Bench(
        chosen.data.resolve(),
        chosen.trained.resolve(),
        chosen.cache.resolve(),
        setting,
        accelerator=chosen.accelerator,
        threads=chosen.threads,
        precision=chosen.precision,
        limit_s=chosen.limit,
        again=chosen.again,
    )
    if not chosen.render_only:
        bench.run_all(tuple(name for name in chosen.methods.split(",") if name))
        if chosen.report:
            bench.measure()
    if not chosen.no_page:
        render(bench.records, chosen.page)


if __name__ == "__main__":
    main()
