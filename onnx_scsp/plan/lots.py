"""Lots: what the allocation takes steps in.

Most lots are one pool. A group may also hold units one of a kind (or fewer of a kind than the
alignment asks for); such pools have nothing to choose among within them, and form one lot together:
their units go in a fixed order. With n units in the lot, m(a, u) entries of unit u on axis a and
v(u) the method's worth of it, per cost that it saves, the next to go of t + 1 units is

    argmin_u v(u)    among units that leave every axis a at least  floor(t / n  sum_u m(a, u))

so that the layers shrink together, as far as the demands allow; units without any worth go first.
An axis that no other pool can hold open keeps a unit for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.plan.cost import Pool
from onnx_scsp.plan.needs import Needs
from onnx_scsp.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Lot:
    """Units of one group that are allocated as one.

    Attributes:
        group: Group id.
        order: int (n,), the pool that each unit belongs to, first to go first.
        worth: float64 (n,), the method's worth of each, in the same order.
        allowed: Counts that may stay, ascending.
        pool: The pool that the lot is, None for units that are few of a kind.
    """

    group: str
    order: IntArray
    worth: FloatArray
    allowed: tuple[int, ...]
    pool: int | None = None

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.order.size)

    def below(self, count: int) -> int | None:
        """The next smaller allowed count, or None."""
        return next((other for other in reversed(self.allowed) if other < count), None)

    def above(self, count: int) -> int | None:
        """The next larger allowed count, or None."""
        return next((other for other in self.allowed if other > count), None)


def spread(lots: list[Lot], counts: list[int], n_pools: int) -> FloatArray:
    """Kept units per pool when lot i keeps counts[i]."""
    k = np.zeros(n_pools)
    for lot, count in zip(lots, counts, strict=True):
        if lot.pool is None:
            k += np.bincount(lot.order[lot.size - count :], minlength=n_pools)
        else:
            k[lot.pool] += count
    return k


def make_lots(
    coupling: Coupling,
    pools: list[Pool],
    needs: Needs,
    worth: list[FloatArray],
    saved: FloatArray,
) -> list[Lot]:
    """Collects the pools of every group into lots.

    Args:
        coupling: The coupling.
        pools: The pools, group by group.
        needs: What has to stay.
        worth: float64 (size,) per pool: what the method finds each unit worth.
        saved: float64 (pools,): cost that goes with a unit of each pool.

    Returns:
        Lots in group order.
    """
    lots = []
    for group, entries in groupby(range(len(pools)), key=lambda place: pools[place].group):
        places = list(entries)
        small = [p for p in places if len(places) > 1 and pools[p].size < max(2, pools[p].step)]
        for place in places:
            if place not in small:
                value = np.sort(worth[place])
                order = np.full(pools[place].size, place)
                lots.append(Lot(group, order, value, pools[place].allowed, place))
        if small:
            lots.append(_mixed(coupling, group, pools, needs, small, worth, saved))
    return lots


def _mixed(
    coupling: Coupling,
    group: str,
    pools: list[Pool],
    needs: Needs,
    small: list[int],
    worth: list[FloatArray],
    saved: FloatArray,
) -> Lot:
    sizes = np.array([pools[place].size for place in small])
    values = [np.sort(worth[place]) for place in small]
    only = needs.rows[~np.delete(needs.rows, small, axis=1).any(axis=1)][:, small]
    queue = _Queue(sizes, _entries(coupling, [pools[p] for p in small]), only)
    scores = [v / max(float(saved[p]), 1e-300) for v, p in zip(values, small, strict=True)]
    going = queue.run(scores)
    rest = np.repeat(np.arange(len(small)), sizes - np.bincount(going, minlength=len(small)))
    order = np.concatenate([going, rest]).astype(np.int64)
    # the i-th unit of a pool to go is its i-th least worth
    rank = [int((order[:place] == pool).sum()) for place, pool in enumerate(order)]
    step = int(np.lcm.reduce([pools[place].step for place in small]))
    step = min(step, order.size)
    first = -(-rest.size // step) * step
    return Lot(
        group=group,
        order=np.array(small)[order],
        worth=np.array([values[pool][i] for pool, i in zip(order, rank, strict=True)]),
        allowed=(*range(first, order.size, step), order.size),
    )


def _entries(coupling: Coupling, pools: list[Pool]) -> FloatArray:
    """(axes, pools): entries of one unit of each pool on every tensor axis, each row once."""
    column = np.full(coupling.n_units + 1, -1)  # the last entry serves unit -1
    for place, pool in enumerate(pools):
        column[pool.global_units] = place
    sizes = np.array([pool.size for pool in pools])
    rows: dict[bytes, FloatArray] = {}
    for by_use in coupling.tensors.values():
        for axes in by_use.values():
            for units in axes.values():
                owner = column[np.atleast_2d(units)[0]]
                if (owner >= 0).any():
                    row = np.bincount(owner[owner >= 0], minlength=len(pools)) / sizes
                    rows.setdefault(row.tobytes(), row)
    return np.array(list(rows.values()), float).reshape(-1, len(pools))


class _Queue:
    """Orders the units of small pools."""

    def __init__(self, sizes: IntArray, entries: FloatArray, demands: BoolArray) -> None:
        self.left = sizes.astype(np.int64)
        self.demands = demands
        # most pools occur like others do: what they leave behind is reckoned once for each kind
        self.entries, kind = np.unique(entries, axis=1, return_inverse=True)
        self.kind = kind.reshape(-1)

    def run(self, scores: list[FloatArray]) -> IntArray:
        """Pools in the order in which their units go, until none may."""
        total = int(self.left.sum())
        whole = filled = self._filled()
        following = np.array([score[0] for score in scores])
        nothing = 1e-14 * max(float(score.max()) for score in scores)
        going: list[int] = []
        while len(going) < total:
            tight = (self.demands @ self.left) <= 1
            may = (self.left > 0) & ~self.demands[tight].any(axis=0)
            if not may.any():
                break
            floor = np.floor((total - len(going) - 1) / total * whole + 1e-9)
            lack = np.maximum(floor[:, None] - filled[:, None] + self.entries, 0.0).sum(axis=0)
            lack = np.where(following > nothing, lack[self.kind], -1.0)
            options = np.flatnonzero(may & (lack <= lack[may].min() + 1e-9))
            chosen = int(options[np.argmin(following[options])])
            going.append(chosen)
            self.left[chosen] -= 1
            filled = filled - self.entries[:, self.kind[chosen]]
            gone = scores[chosen].size - int(self.left[chosen])
            following[chosen] = scores[chosen][gone] if self.left[chosen] else np.inf
        return np.array(going, np.int64)

    def _filled(self) -> FloatArray:
        """Entries of the pools' units on every axis."""
        return np.asarray(self.entries[:, self.kind] @ self.left)
