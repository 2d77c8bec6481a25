"""Brings a rival to the budget: bisection on its knob."""

from __future__ import annotations

from collections.abc import Callable

TOLERANCE = 0.01
COARSE = 2  # where steps are too coarse for the tolerance, this many times it will do
STEPS = 12


class OutOfReachError(Exception):
    """No setting of the knob comes near the budget."""


def bisect(
    left: Callable[[float], float],
    budget: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> float:
    """The knob's setting that leaves the budget, or a little less; more only if it cannot be had.

    Args:
        left: Setting -> share of the MACs that it leaves; falls, in steps, as the setting rises.
        budget: Share of the MACs that may remain.
        low: Setting that removes least.
        high: Setting that removes most.
        steps: Settings that are tried at most.
        tolerance: How far from the budget the result may lie; up to COARSE times as far where
            nothing nearer can be had.

    Returns:
        The setting.

    Raises:
        OutOfReachError: Nothing within the tolerance was found.
    """
    tried: dict[float, float] = {}
    for _ in range(steps):
        middle = (low + high) / 2
        share = tried[middle] = left(middle)
        if share <= budget:
            high = middle
            if share > budget - tolerance / 5:
                break
        else:
            low = middle
    fits = [s for s in tried if budget - tolerance <= tried[s] <= budget]
    if fits:
        return max(fits, key=lambda s: tried[s])
    near = min(tried, key=lambda s: abs(tried[s] - budget))
    if abs(tried[near] - budget) > COARSE * tolerance:
        raise OutOfReachError(
            f"no setting leaves {budget:g} of the MACs within {COARSE * tolerance:g}; "
            f"the nearest leaves {tried[near]:.3f}"
        )
    return near
