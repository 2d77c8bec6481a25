"""What `prune` shows of a search for the smallest model within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from onnx_scsp.report.pruning import prune_json, prune_tables
from onnx_scsp.tolerance import Trial, WithinTolerance


def within_json(found: WithinTolerance) -> dict[str, Any]:
    """The figures of the result, what was asked for, and the trials."""
    tolerance = found.tolerance
    return {
        **prune_json(found.result),
        "tolerance": {
            "max_drop": tolerance.max_drop,
            "metric": tolerance.metric_name,
            "key": tolerance.key,
            "max_divergence": tolerance.max_divergence,
            "original": found.original,
        },
        "trials": [
            {
                "fraction": trial.fraction,
                "achieved": trial.achieved,
                "figure": _finite(trial.figure),
                "loss": _finite(trial.loss),
                "within": trial.within,
            }
            for trial in found.trials
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def within_tables(found: WithinTolerance) -> Iterable[Table | Text]:
    """The trials between the layers and the totals."""
    *above, costs, verdict = prune_tables(found.result)
    return [*above, _trial_table(found), costs, verdict]


def _trial_table(found: WithinTolerance) -> Table:
    tolerance = found.tolerance
    drops = tolerance.max_drop is not None
    table = Table(title="Trials", title_justify="left")
    columns = [found.result.target[0], "achieved"]
    columns += ["metric", "drop"] if drops else ["divergence"]
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column(f"within {tolerance.limit:g}")
    if drops:
        table.add_row("", "", f"{found.original:.6g}", "", "original")
    for trial in found.trials:
        figures = [f"{trial.figure:.6g}", f"{trial.loss:.4g}"] if drops else [f"{trial.loss:.4g}"]
        table.add_row(f"{trial.fraction:g}", f"{trial.achieved:.4f}", *figures, _word(trial))
    return table


def _word(trial: Trial) -> str:
    return "yes" if trial.within else "no"
