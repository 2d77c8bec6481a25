"""How many units each pool keeps: a ratio everywhere, or a global budget.

Global: start from everything; again and again take one step from the pool where

    (curve[k'] - curve[k]) / (cost saved by going from k to k')

is smallest (curves come as damage: -readers log(kept share), see `planner`), until the cost is
within the budget; then give back, dearest loss first, what still fits. Methods that bring a
network-wide scale of their own (`per_cost=False`) leave the cost out of the comparison.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.plan.cost import CostModel, Pool
from onnx_scsp.types import FloatArray


def by_ratio(pools: list[Pool], ratio: float) -> list[int]:
    """The allowed count nearest to `ratio` x size in every pool, ties upwards."""
    result = []
    for pool in pools:
        wanted = ratio * pool.size
        result.append(min(reversed(pool.allowed), key=lambda k: round(abs(k - wanted), 9)))
    return result


def by_budget(
    pools: list[Pool], curves: list[FloatArray], cost: CostModel, limit: float, per_cost: bool
) -> list[int] | None:
    """Counts whose cost is within `limit`, or None where even the smallest counts exceed it.

    Args:
        pools: The pools.
        curves: Loss over k, one array (size + 1,) per pool.
        cost: Cost of a choice of counts.
        limit: The budget.
        per_cost: Whether losses are divided by the cost they save.

    Returns:
        Kept units per pool.
    """
    k = np.array([pool.size for pool in pools], float)
    if cost.total(smallest(pools)) > limit:
        return None
    while cost.total(k) > limit:
        gradient = cost.gradient(k)
        best, target, best_score = -1, 0, np.inf
        for index, pool in enumerate(pools):
            smaller = pool.below(int(k[index]))
            if smaller is None:
                continue
            score = _score(curves[index], int(k[index]), smaller, gradient[index], per_cost)
            if score < best_score:
                best, target, best_score = index, smaller, score
        k[best] = target
    return [int(count) for count in _give_back(pools, curves, cost, limit, k)]


def smallest(pools: list[Pool]) -> FloatArray:
    """The smallest allowed counts."""
    return np.array([pool.allowed[0] for pool in pools], float)


def _score(curve: FloatArray, k: int, smaller: int, gradient: float, per_cost: bool) -> float:
    loss = float(curve[smaller] - curve[k])
    if not per_cost:
        return loss / (k - smaller)
    return loss / max(gradient * (k - smaller), 1e-300)


def _give_back(
    pools: list[Pool], curves: list[FloatArray], cost: CostModel, limit: float, k: FloatArray
) -> FloatArray:
    """Raises counts by one step where the budget still has room, largest loss first."""
    while True:
        options = []
        for index, pool in enumerate(pools):
            larger = next((count for count in pool.allowed if count > k[index]), None)
            if larger is not None:
                gain = float(curves[index][int(k[index])] - curves[index][larger])
                options.append((-gain / (larger - k[index]), index, larger))
        for _, index, larger in sorted(options):
            trial = k.copy()
            trial[index] = larger
            if cost.total(trial) <= limit:
                k = trial
                break
        else:
            return k
