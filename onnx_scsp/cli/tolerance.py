"""Options of `prune` that name a tolerance instead of a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_scsp.cli.output import print_json, print_tables
from onnx_scsp.errors import ConfigError

if TYPE_CHECKING:
    from onnx_scsp.tolerance import Tolerance, WithinTolerance

_PANEL = "Tolerance instead of a budget"

MaxDropOpt = Annotated[
    float | None,
    typer.Option(
        help="Find the smallest model whose --metric is at most this much below the original's.",
        rich_help_panel=_PANEL,
    ),
]
MetricOpt = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Your metric, as for `eval --eval`; higher is better. MODULE:FUNCTION#KEY chooses one "
        "of several figures.",
        rich_help_panel=_PANEL,
    ),
]
MaxDivergenceOpt = Annotated[
    float | None,
    typer.Option(
        help="Find the smallest model whose outputs diverge at most this much, on a quarter of "
        "--calib that is held out.",
        rich_help_panel=_PANEL,
    ),
]
TargetOpt = Annotated[
    str | None,
    typer.Option(
        help="What a tolerance makes small: macs (the default), params or ratio.",
        rich_help_panel=_PANEL,
    ),
]
StateOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Keep the trials here; an interrupted search goes on from them.",
        rich_help_panel=_PANEL,
    ),
]


def asked_tolerance(
    max_drop: float | None,
    metric: str | None,
    max_divergence: float | None,
    target: str | None,
    state: Path | None,
    *,
    no_verify: bool,
) -> Tolerance | None:
    """The tolerance that the options name, None where they name none.

    Raises:
        ConfigError: Options are of no use, or contradict each other.
    """
    if max_drop is None and max_divergence is None:
        others = {"--metric": metric, "--target": target, "--state": state}
        for option, value in others.items():
            if value is not None:
                raise ConfigError(f"{option} goes with --max-drop or --max-divergence")
        return None
    if no_verify:
        raise ConfigError("a tolerance is judged on a proved result; leave out --no-verify")
    from onnx_scsp.tolerance import Tolerance

    return Tolerance(max_drop=max_drop, metric=metric, max_divergence=max_divergence)


def print_within(found: WithinTolerance, *, as_json: bool) -> None:
    """A finished search."""
    from onnx_scsp.report.trials import within_json, within_tables

    if as_json:
        print_json(within_json(found))
    else:
        print_tables(*within_tables(found))
