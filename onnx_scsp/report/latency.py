"""What `prune --latency` shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from onnx_scsp.report.pruning import prune_json, prune_tables
from onnx_scsp.speed import LatencyResult


def latency_json(found: LatencyResult) -> dict[str, Any]:
    """The run's figures, with the latency and the plans that were measured."""
    return {
        **prune_json(found.result),
        "latency": {
            "goal": found.goal,
            "estimated" if found.is_estimate else "measured": found.latency,
            "original_ms": found.original_ms,
            "trials": [asdict(trial) for trial in found.trials],
        },
    }


def latency_tables(found: LatencyResult) -> Iterable[Table | Text]:
    """As for any run, with the plans that were measured before the totals."""
    *above, costs, verdict = prune_tables(found.result)
    shown: list[Table | Text] = [*above]
    if found.trials:
        shown.append(_trials(found))
    told = "estimated by the device table, not measured" if found.is_estimate else "measured"
    summary = (
        f"latency {found.latency:.3f} of the original's {found.original_ms:.4g} ms ({told}), "
        f"goal {found.goal:.3f}"
    )
    return [*shown, costs, Text(summary), verdict]


def _trials(found: LatencyResult) -> Table:
    table = Table(title="Plans that were measured", title_justify="left")
    for column in ("planned for", "measured", "noise", "original ms", "plan ms"):
        table.add_column(column, justify="right")
    for trial in found.trials:
        table.add_row(
            f"{trial.value:.3f}",
            f"{trial.ratio:.3f}",
            f"{trial.noise:.3f}",
            f"{trial.a_ms:.4g}",
            f"{trial.b_ms:.4g}",
        )
    return table
