"""How many units each lot keeps: a ratio everywhere, or a global budget.

Ratio: within a group, every lot is rounded down, then the largest remainders up (ties: the
worthiest units) until the group keeps as near to its share as the allowed counts permit. What that
leaves over in the network as a whole, where allowed counts lie apart, goes to the lots that it is
worth most in, or comes from those that lose least by it.

Global: start from everything; again and again take one step from the lot where

    (curve[t'] - curve[t]) / (cost saved by going from t to t')

is smallest (curves come as damage: -readers log(kept share), see `planner`), until the cost is
within the budget; then give back, dearest loss first, what still fits. Methods that bring a
network-wide scale of their own (`per_cost=False`) leave the cost out of the comparison. A step that
leaves a demand unmet (`Needs`) is not taken.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onnx_scsp.plan.cost import Costs
from onnx_scsp.plan.lots import Lot, spread
from onnx_scsp.plan.needs import Needs
from onnx_scsp.types import BoolArray, FloatArray, IntArray


def by_ratio(
    lots: list[Lot], ratio: float, needs: Needs, curves: list[FloatArray] | None = None
) -> list[int]:
    """Counts whose sum over each group is the nearest to `ratio` x its size, ties upwards.

    Args:
        lots: The lots.
        ratio: Share of units that stays.
        needs: What has to stay.
        curves: Loss over t, one array (size + 1,) per lot, where counts lie apart and what
            rounding leaves over shall go where it counts most.

    Returns:
        Kept units per lot.
    """
    wanted = [ratio * lot.size for lot in lots]
    counts = [
        max((c for c in lot.allowed if c <= wish + 1e-9), default=lot.allowed[0])
        for lot, wish in zip(lots, wanted, strict=True)
    ]
    while (mask := needs.unmet(spread(lots, counts, needs.n_pools))) is not None:
        _raise_one(lots, counts, wanted, _owners(lots, mask))
    by_group: dict[str, list[int]] = {}
    for index, lot in enumerate(lots):
        by_group.setdefault(lot.group, []).append(index)
    for mine in by_group.values():
        goal = sum(wanted[index] for index in mine)
        while _raise_one(lots, counts, wanted, mine, goal - sum(counts[i] for i in mine)):
            pass
    if curves is not None:
        while _settle_one(lots, counts, wanted, curves, needs):
            pass
    return counts


def _settle_one(
    lots: list[Lot],
    counts: list[int],
    wanted: list[float],
    curves: list[FloatArray],
    needs: Needs,
) -> bool:
    """Takes one lot to the other side of its wish where that brings the sum nearer to the goal.

    Too little: the lot that gains most per unit goes up. Too much: the one that loses least goes
    down. Single units are no matter of alignment and stay as they were rounded.
    """
    lack = round(sum(wanted) - sum(counts), 9)
    options = []
    for index, lot in enumerate(lots):
        count = counts[index]
        up = lack > 0
        target = lot.above(count) if up else lot.below(count)
        beyond = count >= wanted[index] if up else count <= wanted[index]
        if target is None or beyond or abs(target - count) == 1:
            continue
        step = abs(target - count)
        if step > 2 * abs(lack) or (not up and step == 2 * abs(lack)):
            continue
        per_unit = float(abs(curves[index][count] - curves[index][target])) / step
        options.append((-per_unit if up else per_unit, index, target))
    for _, index, target in sorted(options):
        before, counts[index] = counts[index], target
        if needs.unmet(spread(lots, counts, needs.n_pools)) is None:
            return True
        counts[index] = before
    return False


def _owners(lots: list[Lot], mask: BoolArray) -> list[int]:
    """Lots that hold units of any of these pools."""
    return [index for index, lot in enumerate(lots) if mask[lot.order].any()]


def _raise_one(
    lots: list[Lot],
    counts: list[int],
    wanted: list[float],
    candidates: Iterable[int],
    lack: float = np.inf,
) -> bool:
    """Raises the count with the largest remainder by one step that does not overshoot `lack`."""
    options = []
    for index in candidates:
        lot, count = lots[index], counts[index]
        larger = lot.above(count)
        if larger is not None and round(larger - count - lack - abs(lack), 9) <= 0:
            remainder = (wanted[index] - count) / (larger - count)
            worth = float(lot.worth[lot.size - larger : lot.size - count].mean())
            options.append((round(remainder, 9), worth, -index, larger))
    if not options:
        return False
    *_, place, larger = max(options)
    counts[-place] = larger
    return True


def by_budget(
    lots: list[Lot],
    curves: list[FloatArray],
    cost: Costs,
    limit: float,
    per_cost: bool,
    needs: Needs,
) -> list[int] | None:
    """Counts whose cost is within `limit`, or None where even the smallest counts exceed it.

    Args:
        lots: The lots.
        curves: Loss over t, one array (size + 1,) per lot.
        cost: Cost of a choice of counts.
        limit: The budget.
        per_cost: Whether losses are divided by the cost they save.
        needs: What has to stay.

    Returns:
        Kept units per lot.
    """
    least = smallest(lots, cost, needs)
    if cost.total(spread(lots, least, needs.n_pools)) > limit:
        return None
    counts = [lot.size for lot in lots]
    k = spread(lots, counts, needs.n_pools)
    steps = _Steps(lots, curves, per_cost)
    while cost.total(k) > limit:
        index = steps.best(cost.gradient(k))
        if index is None:  # what went first stands in the way of what saves more
            counts = least
            break
        smaller = steps.target[index]
        fewer = k + _change(lots[index], counts[index], smaller, needs.n_pools)
        if needs.unmet(fewer) is not None:
            steps.rule_out(index)  # counts only fall, so that the demand never comes to be met
            continue
        counts[index], k = smaller, fewer
        steps.update(index, smaller)
    return give_back(lots, curves, cost, limit, counts, needs)


class _Steps:
    """The next step down of every lot: a choice among thousands, made thousands of times.

    Attributes:
        target: Count that the step leads to.
    """

    def __init__(self, lots: list[Lot], curves: list[FloatArray], per_cost: bool) -> None:
        self._lots, self._curves, self._per_cost = lots, curves, per_cost
        self.target = [0] * len(lots)
        self._loss = np.full(len(lots), np.inf)
        self._width = np.ones(len(lots))
        self._pool = np.array([-1 if lot.pool is None else lot.pool for lot in lots], np.int64)
        self._going: dict[int, IntArray] = {}
        for index, lot in enumerate(lots):
            self.update(index, lot.size)

    def update(self, index: int, count: int) -> None:
        """Looks up the step from a lot's present count."""
        lot, curve = self._lots[index], self._curves[index]
        smaller = lot.below(count)
        if smaller is None:
            self.rule_out(index)
            return
        self.target[index] = smaller
        self._loss[index] = curve[smaller] - curve[count]
        self._width[index] = count - smaller
        if lot.pool is None:
            self._going[index] = lot.order[lot.size - count : lot.size - smaller]

    def rule_out(self, index: int) -> None:
        """A lot that goes no further."""
        self._loss[index] = np.inf

    def best(self, gradient: FloatArray) -> int | None:
        """The lot whose step has the smallest score, None where none is left."""
        divisor = self._width
        if self._per_cost:
            divisor = divisor * gradient[self._pool]
            for index, going in self._going.items():
                divisor[index] = gradient[going].sum()
        score = self._loss / np.maximum(divisor, 1e-300)
        index = int(np.argmin(score)) if score.size else 0
        return index if score.size and score[index] < np.inf else None


def _change(lot: Lot, count: int, target: int, n_pools: int) -> FloatArray:
    """Change of the pools' counts when a lot goes from one count to another."""
    first, last = sorted((lot.size - count, lot.size - target))
    sign = 1 if target > count else -1
    return sign * np.bincount(lot.order[first:last], minlength=n_pools).astype(float)


def smallest(lots: list[Lot], cost: Costs, needs: Needs) -> list[int]:
    """The smallest counts that meet all demands, cheapest steps up first."""
    counts = [lot.allowed[0] for lot in lots]
    k = spread(lots, counts, needs.n_pools)
    while (mask := needs.unmet(k)) is not None:
        gradient = cost.gradient(k)
        options = []
        for index in _owners(lots, mask):
            larger = lots[index].above(counts[index])
            if larger is not None:
                change = _change(lots[index], counts[index], larger, needs.n_pools)
                options.append((float(gradient @ change), index, larger))
        _, index, larger = min(options)
        k = k + _change(lots[index], counts[index], larger, needs.n_pools)
        counts[index] = larger
    return counts


def give_back(
    lots: list[Lot],
    curves: list[FloatArray],
    cost: Costs,
    limit: float,
    counts: list[int],
    needs: Needs,
) -> list[int]:
    """Raises counts by one step where the budget still has room, largest loss first.

    Args:
        lots: The lots.
        curves: Loss over t per lot.
        cost: Cost of a choice of counts.
        limit: The budget.
        counts: Counts within it; changed in place.
        needs: What has to stay.

    Returns:
        The counts.
    """
    while True:
        k = spread(lots, counts, needs.n_pools)
        options = []
        for index, lot in enumerate(lots):
            larger = lot.above(counts[index])
            if larger is not None:
                gain = float(curves[index][counts[index]] - curves[index][larger])
                options.append((-gain / (larger - counts[index]), index, larger))
        for _, index, larger in sorted(options):
            if cost.total(k + _change(lots[index], counts[index], larger, needs.n_pools)) <= limit:
                counts[index] = larger
                break
        else:
            return counts
