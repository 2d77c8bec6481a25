"""`make demo`: compresses the embedded model to half its MACs and shows before and after."""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import onnx_scsp
from onnx_scsp.graph.session import open_session, run_session
from onnx_scsp.report.bench import bench_tables
from onnx_scsp.report.pruning import prune_tables

ROOT = Path(__file__).resolve().parent.parent


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest logit is the label's."""
    logits = run_session(open_session(path), {"image": images})["logits"]
    return float((logits.argmax(axis=1) == labels).mean())


SAMPLES = 200
"""Unlabelled training digits for the second cut."""


def main() -> None:
    """Prunes, verifies, times and judges on the held-out images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "digits_bn.onnx")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "demo.onnx")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    plan_file = options.output.with_suffix(".plan.json")

    split = runpy.run_path(str(ROOT / "models" / "digits_data.py"))["digits_split"]
    samples, _, images, labels = split()
    config = onnx_scsp.PruneConfig(target="macs", value=options.macs)
    result = onnx_scsp.prune(
        options.model, options.output, config, plan_out=plan_file, data={"image": images}
    )
    inputs = onnx_scsp.open_calibration({"image": samples[:SAMPLES]}, onnx_scsp.load(options.model))
    informed = onnx_scsp.prune(
        options.model,
        options.output.with_name(f"{options.output.stem}_calibrated.onnx"),
        config,
        calibration=inputs,
    )
    timing = onnx_scsp.benchmark(options.model, options.output, rounds=200, batch=16)

    console = Console(width=None if Console().is_terminal else 100, highlight=False)
    for table in prune_tables(result):
        console.print(table)
    for table in bench_tables([timing], options.model.name, options.output.name):
        console.print(table)
    console.print(_summary(result, informed, options.model, timing.ratio, images, labels))
    console.print(
        "No training went into either cut, and no data into the first; the network was trained to\n"
        "tolerate missing channels (models/README.md), so it loses less than others would.\n"
        f"Result: {options.output.relative_to(ROOT)}   Plan: {plan_file.relative_to(ROOT)}"
        if options.output.is_relative_to(ROOT)
        else f"Result: {options.output}   Plan: {plan_file}"
    )


def _summary(
    result: onnx_scsp.PruneResult,
    informed: onnx_scsp.PruneResult,
    model: Path,
    ratio: float,
    images: np.ndarray,
    labels: np.ndarray,
) -> Table:
    table = Table(title="In short", title_justify="left")
    for column in ("", "before", "after", "remains"):
        table.add_column(column, justify="left" if not column else "right")
    before, after = result.before, result.after
    dense, pruned = accuracy(model, images, labels), accuracy(result.output, images, labels)
    table.add_row(f"top-1 on {len(labels)} held-out digits", f"{dense:.1%}", f"{pruned:.1%}", "")
    repaired = accuracy(informed.output, images, labels)
    what = f"the same, with {SAMPLES} unlabelled digits, {informed.achieved:.1%} of the MACs"
    table.add_row(what, f"{dense:.1%}", f"{repaired:.1%}", "")
    for name, old, new in (
        ("MACs", before.macs, after.macs),
        ("parameters", before.params, after.params),
        ("file, bytes", before.bytes, after.bytes),
    ):
        table.add_row(name, f"{old:,}", f"{new:,}", f"{new / old:.1%}")
    table.add_row("latency, 1 thread, batch 16", "", "", f"{ratio:.1%}")
    passed = sum(check.passed for check in result.report.checks)
    table.add_row("checks passed", "", f"{passed} of {len(result.report.checks)}", "")
    return table


if __name__ == "__main__":
    main()
