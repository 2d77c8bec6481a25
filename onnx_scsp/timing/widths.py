"""Which widths pay: a staircase thinned to those that are cheaper than every wider one.

From the widest down, a width w is good where it saves, against the last good width v > w, at least
a third of what its channels promise:

    1 - cost(w) / cost(v)  >=  max((1 - w / v) / 3, noise(v))

Widths on one step cost the same: only the widest of them is good. Widths that the runtime is slow
at cost more than wider ones: none of them is. `noise` keeps the scatter of the timings from
deciding where widths lie close together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from types import MappingProxyType

from onnx_scsp.timing.table import MachineTable

_SHARE_OF_PROMISE = 1 / 3
_NOISE, _NOISY_BELOW = 0.05, 128
_GRID = ((64, 4), (128, 8), (256, 16))
"""(up to, step): widths among which the good ones are sought. Coarser where a step is a smaller
part of the whole, and never odd: what kernels like are multiples of a vector's length."""
_SMALL: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType({"grouped": ((2, 1),)})
_FINE = 16
"""Up to here, widths are thinned but say nothing about the distance between the wider ones."""


@dataclass(frozen=True, slots=True)
class Use:
    """One layer's axis that holds channels of a pool.

    Attributes:
        kind: Kind of the layer.
        per_unit: Its channels per unit of the pool (per group, for grouped layers).
        weight: What the layer takes of the whole, in any unit.
    """

    kind: str
    per_unit: float
    weight: float


def grid(limit: int, kind: str = "") -> tuple[int, ...]:
    """Widths up to `limit` among which good ones are sought; those of groups start at 1."""
    found: list[int] = []
    start = 0
    for end, step in (*_SMALL.get(kind, ()), *_GRID, (limit, 16)):
        first = (start // step + 1) * step
        found.extend(range(first, min(end, limit) + 1, step))
        start = max(start, end)
    return tuple(found)


def thinned(candidates: Iterable[int], whole: int, cost: Callable[[int], float]) -> list[int]:
    """Candidates below `whole` that pay, ascending; `whole` itself is always there.

    Args:
        candidates: Widths.
        whole: The width before any cut.
        cost: What a width costs, in any unit.

    Returns:
        The good ones, `whole` last.
    """
    good = [whole]
    for width in sorted({c for c in candidates if 0 < c < whole}, reverse=True):
        wider = good[-1]
        margin = _SHARE_OF_PROMISE * (1 - width / wider)
        if wider <= _NOISY_BELOW:
            margin = max(margin, _NOISE)
        if cost(width) <= cost(wider) * (1 - margin):
            good.append(width)
    return good[::-1]


def good_widths(table: MachineTable, kind: str, limit: int = 256) -> tuple[int, ...]:
    """Widths at which the runtime is fast, for one kind of layer.

    Args:
        table: The machine table.
        kind: Kind of layer.
        limit: The widest that is looked at.

    Returns:
        Good widths, ascending.
    """
    stairs = table.kinds[kind]
    return tuple(thinned(grid(limit, kind), limit, stairs.channels))


def usual_step(table: MachineTable, kind: str) -> int:
    """The usual distance between good widths of a kind, small ones aside."""
    wide = [w for w in good_widths(table, kind, table.kinds[kind].widths[-1]) if w >= _FINE]
    return median_low(b - a for a, b in pairwise(wide)) if len(wide) > 1 else _FINE


def allowed_counts(table: MachineTable, uses: Sequence[Use], size: int) -> tuple[int, ...]:
    """Counts of a pool at which the layers that hold it are fast.

    Args:
        table: The machine table.
        uses: The layers, at least one.
        size: Units of the pool.

    Returns:
        Counts that pay, ascending, `size` last.
    """
    lead = max(uses, key=lambda use: (use.weight, use.kind))
    measured, step = table.kinds[lead.kind].widths[-1], usual_step(table, lead.kind)
    widths = (
        w
        for w in grid(max(int(lead.per_unit * size), 1), lead.kind)
        if w <= measured or w % step == 0
    )
    counts = [width / lead.per_unit for width in widths]
    shares: dict[tuple[str, float], float] = {}
    for use in uses:
        whole = table.kinds[use.kind].channels(use.per_unit * size)
        key = (use.kind, use.per_unit)
        shares[key] = shares.get(key, 0.0) + use.weight / whole

    def cost(count: int) -> float:
        return sum(
            share * table.kinds[kind].channels(per_unit * count)
            for (kind, per_unit), share in shares.items()
        )

    return tuple(thinned((int(c) for c in counts if c == int(c)), size, cost))
