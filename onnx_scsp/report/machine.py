"""What `profile` shows: the machine table."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onnx_scsp.timing import MachineTable, good_widths

_BUSY = 0.15


def machine_csv(table: MachineTable) -> str:
    """One line per kind and width."""
    lines = ["kind,width,ms,base_ms,channels,good"]
    for kind, stairs in table.kinds.items():
        good = set(good_widths(table, kind, stairs.widths[-1]))
        lines.extend(
            f"{kind},{width},{ms:g},{stairs.base_ms:g},{stairs.channels(width):.1f},"
            f"{int(width in good)}"
            for width, ms in zip(stairs.widths, stairs.ms, strict=True)
        )
    return "\n".join(lines) + "\n"


def machine_tables(table: MachineTable, stored: Path | None) -> Iterable[Table | Text]:
    """Good widths by kind, then some of what they were chosen by."""
    shown = Table(title="Good widths", title_justify="left")
    shown.add_column("kind")
    shown.add_column("widths", overflow="fold")
    for kind, stairs in table.kinds.items():
        shown.add_row(kind, _runs(good_widths(table, kind, stairs.widths[-1])))
    yield shown
    costs = Table(title="What a width costs, in channels of the reference width")
    costs.title_justify = "left"
    widths = (1, 2, 3, 4, 8, 12, 15, 16, 17, 24, 31, 32, 47, 48, 60, 62, 63, 64)
    costs.add_column("kind")
    for width in widths:
        costs.add_column(str(width), justify="right")
    for kind, stairs in table.kinds.items():
        costs.add_row(kind, *(f"{stairs.channels(width):.0f}" for width in widths))
    yield costs
    where = f"kept as {stored}" if stored is not None else f"origin: {table.origin}"
    yield Text(
        f"{table.processor}, onnxruntime {table.onnxruntime}, {table.provider}, "
        f"{table.threads} thread(s), {table.sha256[:12]}; {where}"
    )
    if table.scatter > _BUSY:
        yield Text(
            f"The machine was busy: runs took {table.scatter:.0%} longer than undisturbed ones. "
            "Measure again when it is idle."
        )


def _runs(widths: tuple[int, ...]) -> str:
    """Widths, evenly spaced ones as `first, second .. last`."""
    parts: list[str] = []
    left = list(widths)
    while left:
        steps = [b - a for a, b in pairwise(left)]
        even = next((i for i, step in enumerate(steps) if step != steps[0]), len(steps))
        if even >= 3:
            parts.append(f"{left[0]}, {left[1]} .. {left[even]}")
            left = left[even + 1 :]
        else:
            parts.append(str(left.pop(0)))
    return escape(", ".join(parts))
