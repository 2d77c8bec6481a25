"""Scores of units that the planner's own methods do not have: a schedule's `select`.

    filter-norm   sum over the makers of ||filter||_2^2, normalisation not folded in (He et al.)
    bn-scale      sum of gamma^2 over the makers' BatchNormalizations (Xu et al.); filter-norm
                  where a group has none
    class-gap     sum over pairs of classes of (m_c - m_c')^2, m_c the class mean of the largest
                  value of a unit's activation over its positions (Gkalelis and Mezaris);
                  filter-norm where no reader's input shows the unit

The papers take the same share of the filters of every layer. `--ratio` does that; with `--macs` and
`--params` the planner spreads the loss of score over the network as for any other method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.view import view
from onnx_scsp.plan import Method, Pick
from onnx_scsp.retrain.members import unit_sums
from onnx_scsp.types import AnyArray, FloatArray, IntArray, Role
from onnx_scsp.units import UnitTable

Values = Mapping[str, AnyArray]
"""Constant name -> its present values."""
ClassMeans = Mapping[str, FloatArray]
"""Value name -> float64 (classes, channels): class means of the largest value over positions."""
Score = Callable[[Coupling, Values, ClassMeans], Mapping[str, FloatArray]]
"""-> group id -> float64 (units,), larger stays."""


def filter_norms(coupling: Coupling, values: Values, _: ClassMeans) -> Mapping[str, FloatArray]:
    """Squared L2 norms of the filters."""
    return {
        group.id: unit_sums(group, values, lambda member: member.role is Role.MAKES)
        for group in coupling.map.groups
    }


def norm_scales(coupling: Coupling, values: Values, means: ClassMeans) -> Mapping[str, FloatArray]:
    """Squared scales of the normalisations behind the makers."""
    found = dict(filter_norms(coupling, values, means))
    scales = scale_tensors(coupling)
    for group in coupling.map.groups:
        if any(member.tensor in scales for member in group.members):
            found[group.id] = unit_sums(group, values, lambda member: member.tensor in scales)
    return found


def scale_tensors(coupling: Coupling) -> frozenset[str]:
    """Names of the BatchNormalization scales that follow a producer."""
    return frozenset(c.norm_tensors[0] for c in coupling.map.chains if c.norm_tensors)


def class_gaps(coupling: Coupling, values: Values, means: ClassMeans) -> Mapping[str, FloatArray]:
    """Squared gaps between class means, over all pairs of classes and all readers' inputs."""
    found = dict(filter_norms(coupling, values, means))
    seen = np.zeros(coupling.n_units, bool)
    gaps = np.zeros(coupling.n_units)
    for name, by_class in means.items():
        units = channel_units(coupling, name)
        if units is None or units.size != by_class.shape[1]:
            continue
        # trace(M (C I - 1 1') M') per channel
        spread = len(by_class) * np.square(by_class).sum(0) - np.square(by_class.sum(0))
        mine = units >= 0
        np.add.at(gaps, units[mine], np.maximum(spread[mine], 0.0))
        seen[units[mine]] = True
    for group in coupling.map.groups:
        place = slice(coupling.offsets[group.id], coupling.offsets[group.id] + group.n_units)
        if seen[place].all():
            found[group.id] = gaps[place]
    return found


def channel_units(coupling: Coupling, value: str) -> IntArray | None:
    """Global units along the channel axis of an activation; None where several axes carry units."""
    units = coupling.activations.get(value)
    if units is None or sum(size > 1 for size in units.shape) != 1:
        return None
    return units.reshape(-1)


def observed_values(coupling: Coupling) -> tuple[str, ...]:
    """Activations that layers read and that carry units along one axis."""
    readers = {
        member.tensor
        for group in coupling.map.groups
        for member in group.members
        if member.role is Role.READS
    }
    nodes = (node for node in view(coupling.model.proto).nodes if set(node.inputs) & readers)
    names = dict.fromkeys(name for node in nodes for name in node.inputs if name not in readers)
    return tuple(name for name in names if channel_units(coupling, name) is not None)


SCORES: Mapping[str, Score] = MappingProxyType(
    {"filter-norm": filter_norms, "bn-scale": norm_scales, "class-gap": class_gaps}
)
"""Scores by name."""
NEEDS_CLASSES = frozenset({"class-gap"})
"""Scores that need labels."""


def scored_method(name: str, scores: Mapping[str, FloatArray]) -> Method:
    """A planner's method that lets the units of the smallest score go.

    Args:
        name: Name of the method.
        scores: Group id -> float64 (units,), not negative.

    Returns:
        The method: the loss of k units that stay is the share of the score that goes.
    """

    def value(table: UnitTable) -> FloatArray:
        return np.asarray(scores[table.group][table.units], np.float64)

    def curve(table: UnitTable, _: object) -> FloatArray:
        found = np.sort(value(table))[::-1]
        total = float(found.sum())
        if total <= 0:
            return np.linspace(1.0, 0.0, found.size + 1)
        return np.asarray(1.0 - np.concatenate([[0.0], np.cumsum(found)]) / total)

    def pick(table: UnitTable, k: int, _: object) -> Pick:
        return Pick(np.sort(np.argsort(-value(table), kind="stable")[:k]))

    return Method(name, f"units of small {name} go", curve, pick, worth=lambda t, _: value(t))
