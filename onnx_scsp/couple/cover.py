"""What a cut must leave: at least one entry on every axis of every tensor and activation.

An axis all of whose entries belong to units is a demand: one of these units stays. Axes that also
have entries which stay anyway demand nothing. Every group keeps a unit, too, so that a plan never
makes a group vanish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.types import BoolArray, ChannelGroup, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Units of which at least one has to stay.

    Attributes:
        what: The tensor axis, activation or group that would be left empty, in words.
        units: Global units, ascending.
    """

    what: str
    units: IntArray


def find_demands(
    tensors: Mapping[str, Mapping[str, Mapping[int, IntArray]]],
    activations: Mapping[str, IntArray],
    groups: Iterable[ChannelGroup],
    offsets: Mapping[str, int],
) -> tuple[Demand, ...]:
    """Demands of all axes and groups, each set of units once.

    Args:
        tensors: Constant name -> use -> axis -> global units (rows, where parts differ).
        activations: Value name -> array of global units.
        groups: The groups.
        offsets: Group id -> global number of its first unit.

    Returns:
        Demands: tensors first, then activations, then groups.
    """
    found: dict[bytes, Demand] = {}
    seen: set[bytes] = set()

    def demand(what: str, units: IntArray) -> None:
        key = units.tobytes()
        if key not in seen and units.size and units.min() >= 0:
            seen.add(key)
            owners = np.unique(units)
            found.setdefault(owners.tobytes(), Demand(what, owners))

    for name, by_use in tensors.items():
        for axes in by_use.values():
            for axis, units in axes.items():
                for row in np.atleast_2d(units):
                    demand(f"axis {axis} of tensor '{name}'", row)
    for name, units in activations.items():
        demand(f"the channels of '{name}'", units)
    for group in groups:
        demand(f"group {group.id}", offsets[group.id] + np.arange(group.n_units))
    return tuple(found.values())


def first_unmet(demands: Iterable[Demand], keep: BoolArray) -> Demand | None:
    """The first demand that a choice of units leaves unmet, or None."""
    return next((demand for demand in demands if not keep[demand.units].any()), None)


def fewest(
    demands: Iterable[Demand],
    groups: Iterable[ChannelGroup],
    offsets: Mapping[str, int],
    weight: FloatArray,
) -> BoolArray:
    """A small choice of units that meets all demands: of one unit per profile, the heaviest go.

    Args:
        demands: The demands.
        groups: The groups.
        offsets: Group id -> global number of its first unit.
        weight: float64 (n_units,), what each unit costs.

    Returns:
        Bool (n_units,): which units stay.
    """
    keep = np.zeros(weight.size, bool)
    for group in groups:
        keep[offsets[group.id] + np.unique(group.profile, return_index=True)[1]] = True
    places: dict[int, list[int]] = {int(unit): [] for unit in np.flatnonzero(keep)}
    left: list[int] = []
    for demand in demands:
        stays = demand.units[keep[demand.units]]
        for unit in stays.tolist():
            places[unit].append(len(left))
        left.append(stays.size)
    for unit in sorted(places, key=lambda unit: -float(weight[unit])):
        if all(left[place] > 1 for place in places[unit]):
            keep[unit] = False
            for place in places[unit]:
                left[place] -= 1
    return keep
