"""Machine tables made by hand."""

from __future__ import annotations

from collections.abc import Callable

from onnx_scsp.timing import KINDS, MachineTable, Staircase
from onnx_scsp.timing.table import rounded

WIDTHS = (*range(1, 65), *range(68, 129, 4), *range(144, 257, 16))


def stairs(cost: Callable[[int], float], base_ms: float = 1.0) -> Staircase:
    """Times of `cost` channels at 0.01 ms each, on top of a base."""
    return Staircase(WIDTHS, tuple(rounded(base_ms + 0.01 * cost(w)) for w in WIDTHS), base_ms)


def table(cost: Callable[[int], float], **of_kind: Callable[[int], float]) -> MachineTable:
    """A table whose kinds cost alike, but those that are named."""
    kinds = {kind: stairs(of_kind.get(kind, cost)) for kind in KINDS}
    return MachineTable(kinds, "a processor", "1.0", 1, "cpu")


def linear(width: int) -> float:
    return float(width)


def steps_of_16(width: int) -> float:
    return float(-(-width // 16) * 16)


def slow_if_odd(width: int) -> float:
    """Twice as slow where the width is no multiple of 4."""
    return width * (2.0 if width % 4 else 1.0)
