"""Removing the entries of units that go, after their readers were handed to a survivor.

reader slice of survivor += scale x reader slice of removed          (double precision)
tensor <- tensor[entries whose unit stays], along every axis that carries units; where the equal
parts of one axis keep other entries of a second axis each (a grouped convolution), part by part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.patch import Patch
from onnx_scsp.graph.zeroing import Zeroed
from onnx_scsp.types import AnyArray, BoolArray, IntArray, PrunePlan, Role

Takeover = tuple[int, int, float]
"""(removed unit, survivor, scale), in global unit numbers."""


def kept_units(coupling: Coupling, plan: PrunePlan) -> BoolArray:
    """Bool (units of the network,): which ones stay."""
    keep = np.ones(coupling.n_units, bool)
    for cut in plan.cuts:
        start = coupling.offsets[cut.group]
        keep[start : start + cut.n_units] = False
        keep[start + np.array(cut.keep, np.int64)] = True
    return keep


def takeovers(coupling: Coupling, plan: PrunePlan) -> list[Takeover]:
    """Every absorption of the plan, in global unit numbers."""
    return [
        (
            coupling.offsets[cut.group] + removed,
            coupling.offsets[cut.group] + survivor,
            float(cut.scales.get(removed, 1.0)),
        )
        for cut in plan.cuts
        for removed, survivor in cut.absorbed_by.items()
    ]


def cut_tensors(coupling: Coupling, plan: PrunePlan, keep: BoolArray) -> Patch:
    """New values for every tensor that carries a removed unit.

    Args:
        coupling: The model's groups.
        plan: The plan.
        keep: Units that stay.

    Returns:
        A patch of tensors and of per-use copies; nothing else is changed yet.
    """
    constants = coupling.walk.constants
    readers = _readers_of(coupling)
    absorbed = takeovers(coupling, plan)
    tensors: dict[str, AnyArray] = {}
    copies: dict[tuple[int, int], AnyArray] = {}
    for name, by_use in coupling.tensors.items():
        for use, axes in by_use.items():
            touched = {axis: units for axis, units in axes.items() if not _stays(units, keep).all()}
            across = coupling.across.get(name, -1)
            if not touched:
                continue
            if use:
                node, place = (int(part) for part in use.split(":"))
                used = coupling.walk.graph.nodes[node].inputs[place]
                mapping = constants.source(used).axes
                touched = {mapping.index(axis): units for axis, units in touched.items()}
                reads = {mapping.index(axis) for axis in readers.get((name, use), ())}
                across = mapping.index(across) if across >= 0 else -1
                used_array = constants.array(used)
                copies[node, place] = _cut(used_array, touched, reads, across, absorbed, keep)
            else:
                reads = readers.get((name, use), set()) & set(touched)
                array = constants.array(name)
                tensors[name] = _cut(array, touched, reads, across, absorbed, keep)
    return Patch(tensors=tensors, copies=copies)


def masked_readers(
    coupling: Coupling, keep: BoolArray, absorbed: Sequence[Takeover] = ()
) -> dict[str, AnyArray]:
    """Full-sized readers whose slices of removed units are zero: the cut, before anything shrinks.

    Args:
        coupling: The model's groups.
        keep: Units that stay.
        absorbed: Who takes over whom before that.

    Returns:
        Stored constant -> values, for every reader that loses a unit. Left out are copies per use
        of shared constants, and constants that are computed.
    """
    constants = coupling.walk.constants
    masked: dict[str, AnyArray] = {}
    for (name, use), axes in _readers_of(coupling).items():
        if use or constants.is_derived(name):
            continue
        array = np.array(constants.array(name))
        zero = constants.zero_of(name)
        across = coupling.across.get(name, -1)
        for axis in axes:
            units = coupling.tensors[name][use][axis]
            gone = ~_stays(units, keep)
            if not gone.any():
                continue
            if absorbed:
                array = _merge_parts(array, axis, units, across, list(absorbed))
            shape = [1] * array.ndim
            if units.ndim == 2:  # equal parts of another axis lose other entries each
                parts = np.repeat(gone, array.shape[across] // len(units), axis=0)
                shape[across], shape[axis] = parts.shape
                gone = parts if across < axis else parts.T
            else:
                shape[axis] = gone.size
            array = np.where(gone.reshape(shape), zero, array).astype(array.dtype)
            masked[name] = array
    return masked


def masked_reductions(coupling: Coupling, keep: BoolArray) -> dict[tuple[str, int], Zeroed]:
    """What nodes that run over channels without a weight see of the cut, before anything shrinks.

    Args:
        coupling: The model's groups.
        keep: Units that stay.

    Returns:
        (First output of a node, input place) -> entries that it sees as they are, others as zero.
    """
    nodes = coupling.walk.graph.nodes
    places: dict[tuple[str, int], Zeroed] = {}
    for group in coupling.map.groups:
        for reduction in group.reductions:
            number, place = reduction.at
            units = np.where(reduction.units < 0, -1, reduction.units + coupling.offsets[group.id])
            stays = _stays(units, keep)
            key = (nodes[number].outputs[0], place)
            if key in places:
                stays = stays & places[key].stays
            if not stays.all():
                places[key] = Zeroed(reduction.axis, stays, reduction.restricted)
    return places


def _merge_parts(
    array: AnyArray, axis: int, units: IntArray, across: int, absorbed: list[Takeover]
) -> AnyArray:
    """Merges along one axis, part by part where equal parts of another read other units each."""
    if units.ndim == 1:
        return _merge(array, axis, units, absorbed)
    parts = np.split(array, len(units), axis=across)
    merged = [_merge(part, axis, row, absorbed) for part, row in zip(parts, units, strict=True)]
    return np.concatenate(merged, axis=across)


def _readers_of(coupling: Coupling) -> Mapping[tuple[str, str], set[int]]:
    """(Tensor, use or '' for all) -> axes that read units."""
    readers: dict[tuple[str, str], set[int]] = {}
    for group in coupling.map.groups:
        for member in group.members:
            if member.role is Role.READS:
                for use in member.uses or ("",):
                    readers.setdefault((member.tensor, use), set()).add(member.axis)
    return readers


def _cut(
    array: AnyArray,
    touched: Mapping[int, IntArray],
    reads: set[int],
    across: int,
    absorbed: list[Takeover],
    keep: BoolArray,
) -> AnyArray:
    """One tensor, or one use of it: merges along the axes that read, then cuts."""
    parted = next((axis for axis, units in touched.items() if units.ndim == 2), None)
    if parted is not None:
        rows = touched[parted]
        parts = []
        for part, row, span in zip(
            np.split(array, len(rows), axis=across),
            rows,
            np.split(np.arange(array.shape[across]), len(rows)),
            strict=True,
        ):
            axes = {**touched, parted: row}
            if across in touched:
                axes[across] = touched[across][span]
            parts.append(_cut(part, axes, reads, across, absorbed, keep))
        return np.concatenate(parts, axis=across)
    for axis in reads:
        array = _merge(array, axis, touched[axis], absorbed)
    return _take(array, touched, keep)


def _stays(units: IntArray, keep: BoolArray) -> BoolArray:
    return (units < 0) | keep[units]


def _take(array: AnyArray, axes: Mapping[int, IntArray], keep: BoolArray) -> AnyArray:
    for axis, units in axes.items():
        array = np.take(array, np.flatnonzero(_stays(units, keep)), axis=axis)
    return np.ascontiguousarray(array)


def _merge(array: AnyArray, axis: int, units: IntArray, absorbed: list[Takeover]) -> AnyArray:
    """Adds the scaled slices of removed units to those of their survivors."""
    places: dict[int, list[int]] = {}
    for place, unit in enumerate(units.tolist()):
        places.setdefault(unit, []).append(place)
    sources, targets, scales = [], [], []
    for removed, survivor, scale in absorbed:
        # units of one profile occur equally often; the i-th occurrences correspond
        for source, target in zip(places.get(removed, ()), places.get(survivor, ()), strict=True):
            sources.append(source)
            targets.append(target)
            scales.append(scale)
    if not sources:
        return array
    rows = np.moveaxis(array.astype(np.float64), axis, 0).copy()
    weight = np.array(scales).reshape(-1, *(1,) * (rows.ndim - 1))
    np.add.at(rows, targets, rows[sources] * weight)
    return np.asarray(np.moveaxis(rows, 0, axis).astype(array.dtype))
