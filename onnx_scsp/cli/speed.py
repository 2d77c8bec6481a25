"""Options of `prune` that are about time: a latency as the budget, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_scsp.cli.output import print_json, print_tables
from onnx_scsp.errors import ConfigError

if TYPE_CHECKING:
    from onnx_scsp.pipeline import Gate
    from onnx_scsp.speed import Latency, LatencyResult
    from onnx_scsp.timing import DeviceTable, MachineTable

_PANEL = "Latency"
GATES = ("check", "widen", "off")

LatencyOpt = Annotated[
    float | None,
    typer.Option(
        help="Fraction of the original's latency that may remain, measured here with --threads.",
        rich_help_panel=_PANEL,
    ),
]
LatencyMsOpt = Annotated[
    float | None,
    typer.Option(help="The same in milliseconds.", rich_help_panel=_PANEL),
]
TargetTableOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Plan --latency for another device: a CSV of layer times measured there "
        "(kind,in,out,kernel,stride,spatial,ms). Nothing is measured here then.",
        rich_help_panel=_PANEL,
    ),
]
MachineTableOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What --align auto goes by, from `profile -o FILE.json` here or on another machine.",
        rich_help_panel=_PANEL,
    ),
]
GateOpt = Annotated[
    str,
    typer.Option(
        help="check: fail where the result is slower than the original. widen: first widen or undo "
        "what does not pay. off: measure nothing.",
        rich_help_panel=_PANEL,
    ),
]
NoGateOpt = Annotated[
    bool,
    typer.Option("--no-gate", help="The same as --gate off.", rich_help_panel=_PANEL),
]


def asked_latency(
    fraction: float | None,
    ms: float | None,
    target_table: Path | None,
    *,
    threads: int,
    provider: str,
    tolerance: bool,
) -> Latency | None:
    """The latency that the options name, None where they name none.

    Raises:
        ConfigError: Options are of no use, or contradict each other.
    """
    if fraction is None and ms is None:
        if target_table is not None:
            raise ConfigError("--target-table goes with --latency or --latency-ms")
        return None
    if tolerance:
        raise ConfigError("give a latency or a tolerance, not both")
    from onnx_scsp.speed import Latency

    return Latency(fraction=fraction, ms=ms, threads=threads, provider=provider)


def asked_gate(gate: str, no_gate: bool) -> str:
    """The gate that the options name.

    Raises:
        ConfigError: There is none of that name, or the options contradict each other.
    """
    if gate not in GATES:
        raise ConfigError(f"--gate '{gate}' is unknown; use one of {', '.join(GATES)}")
    if no_gate and gate == "widen":
        raise ConfigError("--no-gate and --gate widen contradict each other")
    return "off" if no_gate else gate


def measured_gate(
    gate: str, threads: int, provider: str, shapes: Mapping[str, tuple[int, ...]]
) -> Gate | None:
    """The gate for a finished search, None where it is off."""
    if gate == "off":
        return None
    from onnx_scsp.measure.compare import comparer
    from onnx_scsp.speed import never_slower

    return never_slower(comparer(threads=threads, provider=provider, input_shapes=shapes), threads)


def read_device_table(path: Path | None) -> DeviceTable | None:
    """The table of another device.

    Raises:
        ConfigError: It cannot be read or is no table.
    """
    if path is None:
        return None
    from onnx_scsp.timing import device_table

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}") from error
    return device_table(text, str(path))


def read_machine_table(path: Path | None) -> MachineTable | None:
    """A table that `profile` wrote.

    Raises:
        ConfigError: It cannot be read or is no table.
    """
    if path is None:
        return None
    from onnx_scsp.measure.store import read_table

    return read_table(path, origin=str(path))


def print_latency(found: LatencyResult, *, as_json: bool) -> None:
    """A finished run."""
    from onnx_scsp.report.latency import latency_json, latency_tables

    if as_json:
        print_json(latency_json(found))
    else:
        print_tables(*latency_tables(found))
