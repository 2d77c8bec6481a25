"""What `plan`, `apply` and `prune` show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onnx_scsp.report.checks import checks_json, report_table
from onnx_scsp.results import PruneResult
from onnx_scsp.types import Cost, PrunePlan


def prune_json(result: PruneResult) -> dict[str, Any]:
    """Figures before and after, groups, reasons, checks, seconds."""
    return {
        "output": str(result.output),
        "before": _cost(result.before),
        "after": _cost(result.after),
        "target": {result.target[0]: result.target[1]},
        "achieved": result.achieved,
        "groups": _groups(result.plan),
        "layers": [
            {"node": node, "before": before, "after": after}
            for node, (before, after) in result.layers.items()
        ],
        "frozen": _frozen(result.plan),
        "checks": checks_json(result.report),
        "seconds": dict(result.seconds),
    }


def plan_json(plan: PrunePlan) -> dict[str, Any]:
    """The plan's decisions, without the members."""
    return {
        "model_sha256": plan.model_sha256,
        "config": dict(plan.config),
        "groups": _groups(plan),
        "frozen": _frozen(plan),
    }


def _cost(cost: Cost) -> dict[str, int]:
    return {"macs": cost.macs, "params": cost.params, "bytes": cost.bytes}


def _groups(plan: PrunePlan) -> list[dict[str, Any]]:
    cuts = {cut.group: cut for cut in plan.cuts}
    return [
        {
            "id": group.id,
            "before": group.n_units,
            "after": len(cuts[group.id].keep) if group.id in cuts else group.n_units,
            "absorbed": len(cuts[group.id].absorbed_by) if group.id in cuts else 0,
            "criterion": cuts[group.id].criterion if group.id in cuts else "",
            "layers": list(group.layers),
        }
        for group in plan.groups
    ]


def _frozen(plan: PrunePlan) -> list[dict[str, Any]]:
    return [
        {
            "node": entry.node,
            "reason": entry.reason.value,
            "detail": entry.detail,
            "layers": list(entry.layers),
        }
        for entry in plan.frozen
    ]


def prune_tables(result: PruneResult) -> Iterable[Table | Text]:
    """Per-layer channels, checks, totals last, where the eye ends up."""
    yield _layer_table(result)
    yield report_table(result.report)
    yield _cost_table(result)
    yield Text(_verdict(result))


def _layer_table(result: PruneResult) -> Table:
    table = Table(title="Channels per layer", title_justify="left")
    table.add_column("layer", overflow="fold")
    for column in ("before", "after", "kept"):
        table.add_column(column, justify="right")
    for node, (before, after) in result.layers.items():
        kept = f"{after / before:.0%}" if before else ""
        table.add_row(escape(node), str(before), str(after), kept)
    return table


def _cost_table(result: PruneResult) -> Table:
    table = Table(title="Before and after", title_justify="left")
    table.add_column("")
    for column in ("before", "after", "remains"):
        table.add_column(column, justify="right")
    rows = (
        ("MACs", result.before.macs, result.after.macs),
        ("parameters", result.before.params, result.after.params),
        ("bytes", result.before.bytes, result.after.bytes),
        ("channel units", *_units(result.plan)),
    )
    for name, before, after in rows:
        table.add_row(name, f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%}")
    return table


def _units(plan: PrunePlan) -> tuple[int, int]:
    groups = _groups(plan)
    return sum(group["before"] for group in groups), sum(group["after"] for group in groups)


def _verdict(result: PruneResult) -> str:
    groups = _groups(result.plan)
    cut = sum(group["after"] < group["before"] for group in groups)
    checked = "all checks passed" if result.report.checks else "NOT VERIFIED"
    aim = f"asked for {result.target[0]} {result.target[1]:g}, achieved {result.achieved:.4f}; "
    return (
        f"{result.output}: {aim if result.target[0] else ''}"
        f"{cut} of {len(groups)} groups cut, {checked}, {sum(result.seconds.values()):.1f} s"
    )


def plan_tables(plan: PrunePlan, output: str) -> Iterable[Table | Text]:
    """Groups before and after."""
    table = Table(title="Plan", title_justify="left")
    table.add_column("group")
    for column in ("units", "stay", "taken over"):
        table.add_column(column, justify="right")
    table.add_column("made by", overflow="fold")
    for group in _groups(plan):
        layers = group["layers"]
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        table.add_row(
            group["id"],
            str(group["before"]),
            str(group["after"]),
            str(group["absorbed"]),
            escape(", ".join(layers[:3]) + more),
        )
    yield table
    yield Text(f"{output}: carry it out with `onnx-scsp apply`")
