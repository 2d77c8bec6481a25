"""Which counts a pool may keep so that the runtime is fast at what is left.

A pool's units lie on axes of layers; each of those layers is of a kind that the machine table has
a staircase for, and counts for as many MACs as it takes. A 1 x 1 convolution that makes or reads
what is filtered channel by channel, or group by group, is judged with that filter: the table has
timed them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.timing import MachineTable, Use, allowed_counts, usual_step
from onnx_scsp.types import IntArray

COARSE = 4
"""What widths are multiples of where good ones do not meet the budget."""
_BRANCHES = ("depthwise", "grouped")
"""Kinds whose probes hold 1 x 1 convolutions on both sides."""


@dataclass(frozen=True, slots=True)
class LayerKind:
    """How the machine table sees one node.

    Attributes:
        kind: One of `onnx_scsp.timing.KINDS`.
        groups: Groups of a grouped convolution, else 1.
    """

    kind: str
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Widths:
    """What was decided for one pool.

    Attributes:
        kinds: Kinds of layers that hold it, the weightiest first.
        step: What its counts are multiples of, as far as that goes.
        counts: Counts that may stay; None where multiples of `step` may.
        coarse: What counts are multiples of where good ones do not meet the budget.
    """

    kinds: tuple[str, ...]
    step: int
    counts: tuple[int, ...] | None
    coarse: int


def layer_kinds(coupling: Coupling) -> dict[str, LayerKind]:
    """Kind of every node that costs MACs."""
    nodes = {node.name: node for node in coupling.walk.graph.nodes}
    constants = coupling.walk.constants
    found: dict[str, LayerKind] = {}
    for term in coupling.costs:
        node = nodes[term.node]
        weight = node.input(1)
        # only two-dimensional convolutions have kernels whose cost has steps of their own
        if node.op_type != "Conv" or weight not in constants or len(constants.shape(weight)) != 4:
            found[term.node] = LayerKind("matmul")
            continue
        shape, groups = constants.shape(weight), int(node.attr("group", 1))
        if groups == 1:
            found[term.node] = LayerKind("pointwise" if shape[2:] == (1, 1) else "dense")
        elif shape[1] == 1 and shape[0] == groups:
            found[term.node] = LayerKind("depthwise")
        else:
            found[term.node] = LayerKind("grouped", groups)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class LayerAxis:
    """One axis of a layer that carries units.

    Attributes:
        layer: Kind of the layer.
        is_first: Whether it is the axis of the layer's filters.
        vector: Global unit of every entry, -1 where none.
        macs: MACs of the layer.
    """

    layer: LayerKind
    is_first: bool
    vector: IntArray
    macs: float


def axes_by_group(coupling: Coupling) -> Mapping[str, tuple[LayerAxis, ...]]:
    """Group id -> the axes of layers that carry its units."""
    kinds = layer_kinds(coupling)
    ids = sorted(coupling.offsets, key=coupling.offsets.__getitem__)
    starts = np.array([coupling.offsets[group] for group in ids], np.int64)
    found: dict[str, list[LayerAxis]] = {group: [] for group in ids}
    for term in coupling.costs:
        for axis, vector in enumerate(term.vectors):
            entry = LayerAxis(kinds[term.node], axis == 0, vector, term.macs)
            carried = vector[vector >= 0]
            for number in np.unique(np.searchsorted(starts, carried, side="right") - 1):
                found[ids[number]].append(entry)
    return {group: tuple(entries) for group, entries in found.items()}


def pool_widths(
    axes: Sequence[LayerAxis],
    table: MachineTable,
    units: IntArray,
    *,
    alone: bool,
    relaxed: bool,
) -> Widths | None:
    """Counts of one pool.

    Args:
        axes: The axes that carry the pool's group (`axes_by_group`).
        table: The machine table.
        units: Global numbers of the pool's units.
        alone: Whether the pool is its whole group; else multiples of a step are all that is asked.
        relaxed: Whether multiples of 4 may stay, too.

    Returns:
        The decision; None where no layer that costs MACs holds the pool.
    """
    uses = _uses(axes, units)
    if not uses:
        return None
    lead = uses[0]
    names = tuple(dict.fromkeys(use.kind for use in uses))
    coarse = max(round(COARSE / lead.per_unit), 1)
    step = coarse if relaxed else max(round(usual_step(table, lead.kind) / lead.per_unit), 1)
    if not alone:
        return Widths(names, step, None, coarse)
    counts = set(allowed_counts(table, uses, units.size))
    if relaxed:
        counts |= set(range(coarse, units.size, coarse))
    return Widths(names, step, tuple(sorted(counts)), coarse)


def _uses(axes: Sequence[LayerAxis], units: IntArray) -> list[Use]:
    """Uses of a pool, one per layer and axis, the weightiest first."""
    found: list[Use] = []
    for axis in axes:
        own = int(np.isin(axis.vector, units).sum())
        if not own:
            continue
        # the second axis of a grouped convolution is that of one group already
        groups = axis.layer.groups if axis.is_first else 1
        joined = own < axis.vector.size and axis.layer.kind == "pointwise"
        kind = "joined" if joined else axis.layer.kind
        found.append(Use(kind, own / units.size / groups, axis.macs))
    return sorted(_led_by_branches(found), key=lambda use: -use.weight)


def _led_by_branches(uses: list[Use]) -> list[Use]:
    lead = max(
        (use for use in uses if use.kind in _BRANCHES), key=lambda use: use.weight, default=None
    )
    if lead is None:
        return uses
    return [
        replace(use, kind=lead.kind, per_unit=lead.per_unit)
        if use.kind in ("pointwise", "joined")
        else use
        for use in uses
    ]
