"""Counting: MACs, parameters, layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.couple.cover import Demand, fewest
from onnx_scsp.couple.walk import Walk
from onnx_scsp.types import (
    AnyArray,
    BoolArray,
    Chain,
    ChannelGroup,
    FloatArray,
    IntArray,
    Layer,
)


@dataclass(frozen=True, slots=True, eq=False)
class CostTerm:
    """MACs of one node: coefficient x the number of kept entries of each vector.

    Attributes:
        node: Node name.
        coefficient: MACs per combination of entries.
        vectors: Arrays of global unit numbers, -1 for entries that stay.
    """

    node: str
    coefficient: float
    vectors: tuple[IntArray, ...]

    @property
    def macs(self) -> float:
        """MACs of the node as it is."""
        return self.coefficient * float(np.prod([vector.size for vector in self.vectors]))

    def macs_with(self, keep: BoolArray) -> float:
        """MACs of the node when only these units stay (bool per global unit)."""
        stays = np.append(keep, True)  # the last entry answers for -1, what is no unit
        counts = [float(stays[units].sum()) for units in self.vectors]
        return self.coefficient * float(np.prod(counts))


def whole_macs(costs: Iterable[CostTerm]) -> int:
    """MACs of the model as it is."""
    return round(sum(term.macs for term in costs))


def floor_macs(
    costs: Iterable[CostTerm],
    demands: Iterable[Demand],
    groups: tuple[ChannelGroup, ...],
    offsets: Mapping[str, int],
) -> int:
    """MACs with as few units as leave no axis and no group empty."""
    costs = tuple(costs)
    n_units = sum(group.n_units for group in groups)
    keep = fewest(demands, groups, offsets, _macs_by_unit(costs, n_units))
    return round(sum(term.macs_with(keep) for term in costs))


def _macs_by_unit(costs: Iterable[CostTerm], n_units: int) -> FloatArray:
    """MACs of the slices that belong to each unit; what two units share counts for both."""
    result = np.zeros(n_units)
    for term in costs:
        for units in term.vectors:
            owned = np.bincount(units[units >= 0], minlength=n_units)
            result += owned * (term.macs / max(units.size, 1))
    return result


def count_params(walked: Walk) -> int:
    """Elements of all stored constants that hold real numbers or integers that code them."""
    constants = walked.constants
    return sum(constants.size(name) for name in constants.names() if constants.is_parameter(name))


def list_layers(
    walked: Walk,
    chains: Iterable[Chain],
    tensors: Mapping[str, Mapping[str, Mapping[int, IntArray]]],
    costs: Iterable[CostTerm],
    group_of_unit: AnyArray,
) -> tuple[Layer, ...]:
    """One record per node that makes or filters channels, in graph order."""
    macs: dict[str, float] = {}
    for term in costs:
        macs[term.node] = macs.get(term.node, 0.0) + term.macs
    layers = []
    for chain in chains:
        channels = walked.constants.shape(chain.weight)[chain.makes_axis]
        by_use = tensors.get(chain.weight, {})
        units = [axes[chain.makes_axis] for axes in by_use.values() if chain.makes_axis in axes]
        owned = units[0][units[0] >= 0] if units else np.zeros(0, np.int64)
        layers.append(
            Layer(
                node=chain.node,
                op_type=chain.op_type,
                channels=channels,
                free=int(owned.size),
                macs=round(macs.get(chain.node, 0.0)),
                groups=tuple(str(name) for name in np.unique(group_of_unit[owned])),
            )
        )
    for fact in walked.facts.held:
        node = walked.graph.nodes[fact.index]
        cost = round(macs.get(node.name, 0.0))
        layers.append(Layer(node.name, node.op_type, fact.channels, 0, cost, ()))
    order = {node.name: node.index for node in walked.graph.nodes}
    return tuple(sorted(layers, key=lambda layer: order[layer.node]))


def macs_by_group(costs: tuple[CostTerm, ...], group_of_unit: IntArray, n_groups: int) -> list[int]:
    """MACs of the nodes that touch each group; a node that touches two counts for both."""
    macs = [0.0] * n_groups
    for term in costs:
        touched = {
            int(group)
            for vector in term.vectors
            for group in np.unique(group_of_unit[vector[vector >= 0]])
        }
        for group in touched:
            macs[group] += term.macs
    return [round(value) for value in macs]
