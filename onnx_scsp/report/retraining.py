"""What `retrain` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onnx_scsp.report.checks import checks_json, report_table
from onnx_scsp.retrain.result import RetrainResult
from onnx_scsp.types import Cost


def retrain_json(result: RetrainResult) -> dict[str, Any]:
    """Figures before and after, epochs, checks, seconds."""
    return {
        "output": str(result.output),
        "before": _cost(result.before) | {"metric": result.metric_before},
        "after": _cost(result.after) | {"metric": result.metric_after},
        "metric": result.metric,
        "target": {result.target[0]: result.target[1]} if result.target[0] else {},
        "achieved": result.achieved,
        "divergence": result.divergence,
        "epochs": [dict(record) for record in result.records],
        "layers": [
            {"node": node, "before": before, "after": after}
            for node, (before, after) in result.layers.items()
        ],
        "checks": checks_json(result.report),
        "seconds": dict(result.seconds),
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return {"macs": cost.macs, "params": cost.params, "bytes": cost.bytes}


def retrain_tables(result: RetrainResult) -> Iterable[Table | Text]:
    """Epochs, checks, totals last, where the eye ends up."""
    yield _epoch_table(result)
    yield report_table(result.report)
    yield _cost_table(result)
    yield Text(_verdict(result))


def _epoch_table(result: RetrainResult) -> Table:
    table = Table(title="Epochs", title_justify="left")
    for column in ("epoch", "loss", result.metric, "as cut", "MACs left", "units"):
        table.add_column(column, justify="right")
    for record in result.records:
        table.add_row(
            str(record["epoch"]),
            f"{record['loss']:.4f}",
            _share(record["metric"]),
            _share(record["metric_cut"]),
            _share(record["macs"]),
            str(sum(record["survivors"].values())),
        )
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _cost_table(result: RetrainResult) -> Table:
    table = Table(title="Before and after", title_justify="left")
    table.add_column("")
    for column in ("before", "after", "remains"):
        table.add_column(column, justify="right")
    for name in ("macs", "params", "bytes"):
        before, after = getattr(result.before, name), getattr(result.after, name)
        table.add_row(name, f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%}")
    if result.metric_before is not None:
        table.add_row(
            f"{result.metric}, held-out samples",
            _share(result.metric_before),
            _share(result.metric_after),
            "",
        )
    return table


def _verdict(result: RetrainResult) -> str:
    asked = ""
    if result.target[0]:
        asked = (
            f"asked for {result.target[0]} {result.target[1]:g}, achieved {result.achieved:.4f}; "
        )
    return (
        f"{escape(str(result.output))}: {asked}all checks passed, onnxruntime within "
        f"{result.divergence:.1e} of PyTorch, {sum(result.seconds.values()):.1f} s"
    )
