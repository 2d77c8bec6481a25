"""Variants of the original model for the oracles, made from the plan's members alone.

Nothing here is shared with surgery: entries are addressed by the tensor, axis and unit numbers that
the plan file spells out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np

from onnx_scsp.errors import InternalError
from onnx_scsp.graph.apart import Variant
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import Lazy, Patch, patched_variant
from onnx_scsp.graph.view import view
from onnx_scsp.proof.restrict import restrict_statistics
from onnx_scsp.proof.zeros import keep_neighbours, zero_reductions
from onnx_scsp.types import AnyArray, ChannelGroup, GroupCut, IntArray, Member, PrunePlan, Role

Rewrite = Callable[[AnyArray, Member, ChannelGroup], AnyArray]
"""(Values, member, its group) -> new values; the old ones may be written over."""


def masked_twin(model: Model, plan: PrunePlan, *, loud: bool = False) -> Variant:
    """The original with the readers' slices of the removed units zeroed.

    A unit that the plan lets another take over first adds its slices, scaled, to that one's. In a
    quantised reader, its zero point stands for zero. A normalisation over channels that the plan
    cuts runs over those that stay, and any other reduction over zeros for those that go.

    Args:
        model: The original.
        plan: The plan.
        loud: Whether removed units also get large filters: nothing may depend on what they compute.

    Returns:
        A variant of the original's shapes that has to compute what the pruned model computes.
    """
    cuts = {cut.group: cut for cut in plan.cuts}

    def mask(array: AnyArray, member: Member, group: ChannelGroup) -> AnyArray:
        if member.role is Role.MAKES:
            return _amplify(array, member, cuts[group.id])
        return _mask(array, member, cuts[group.id])

    touched = [(group, m) for group in plan.groups if group.id in cuts for m in group.members]
    readers = [(group, member) for group, member in touched if member.role is Role.READS]
    tied = {(member.tensor, member.axis) for _, member in readers}
    makers = [
        (group, member)
        for group, member in touched
        if loud and member.role is Role.MAKES and (member.tensor, member.axis) not in tied
    ]
    twin = _rewrite(model, [*makers, *readers], mask, centred=True)
    restrict_statistics(twin.proto, model, plan)
    zero_reductions(twin.proto, model, plan)
    return twin


def permuted(model: Model, groups: tuple[ChannelGroup, ...], seed: int) -> Variant:
    """The original with interchangeable units of every group permuted in all its members.

    Args:
        model: The original.
        groups: Groups of any plan of the model.
        seed: Seed of the permutations.

    Returns:
        A variant that has to compute what the original computes.
    """
    rng = np.random.default_rng(seed)
    orders = {group.id: _shuffle(group.profile, rng) for group in groups}

    def permute(array: AnyArray, member: Member, group: ChannelGroup) -> AnyArray:
        return np.take(array, _source_places(member.units, orders[group.id]), axis=member.axis)

    def source(group: ChannelGroup, units: IntArray) -> IntArray:
        return _source_places(units, orders[group.id])

    variant = _rewrite(model, ((g, m) for g in groups for m in g.members), permute)
    keep_neighbours(variant.proto, model, groups, source)
    return variant


def _shuffle(profile: IntArray, rng: np.random.Generator) -> IntArray:
    """order[u]: the unit whose place u takes; units move within their profile."""
    order = np.arange(profile.size)
    for value in np.unique(profile):
        members = np.flatnonzero(profile == value)
        order[members] = members[rng.permutation(members.size)]
    return order


def _source_places(units: IntArray, order: IntArray) -> IntArray:
    """For each entry the entry that moves here; the i-th occurrences of two units correspond."""
    places, starts = _places(units)
    owner = units[places]
    rank = np.arange(places.size) - starts[owner]
    source = np.arange(units.size)
    source[places] = places[starts[order[owner]] + rank]
    if (units[source[places]] != order[owner]).any():
        raise InternalError("units of one profile have entries in unequal numbers")
    return source


def _places(units: IntArray) -> tuple[IntArray, IntArray]:
    """Entries by their unit, each unit's in their order, and where those of each unit begin."""
    owned = np.flatnonzero(units >= 0)
    places = owned[np.argsort(units[owned], kind="stable")]
    return places, np.searchsorted(units[places], np.arange(int(units.max(initial=-1)) + 2))


def _mask(array: AnyArray, member: Member, cut: GroupCut) -> AnyArray:
    rows = np.moveaxis(array, member.axis, 0)
    places, starts = _places(member.units)
    entries = [places[a:b] for a, b in pairwise(starts)]
    wide: dict[int, AnyArray] = {}  # sums in double precision, rounded once
    for removed, survivor in cut.absorbed_by.items():
        if removed < len(entries) and entries[removed].size:
            if survivor not in wide:
                wide[survivor] = rows[entries[survivor]].astype(np.float64)
            gone = rows[entries[removed]].astype(np.float64)
            wide[survivor] += cut.scales.get(removed, 1.0) * gone
    for survivor, summed in wide.items():
        rows[entries[survivor]] = summed.astype(array.dtype)
    rows[_removed(member, cut)] = 0
    return array


def _removed(member: Member, cut: GroupCut) -> IntArray:
    """Entries of the units that go."""
    return np.flatnonzero((member.units >= 0) & ~np.isin(member.units, cut.keep))


def _amplify(array: AnyArray, member: Member, cut: GroupCut) -> AnyArray:
    """Filters of removed units become the largest filter, doubled, with either sign by turns."""
    rows = np.moveaxis(array, member.axis, 0)
    flat = rows.reshape(len(rows), -1).astype(np.float32, copy=False)
    size = np.einsum("ij,ij->i", flat, flat)
    gone = _removed(member, cut)
    doubled = 2.0 * rows[int(np.argmax(size))].astype(np.float64)
    rows[gone[::2]], rows[gone[1::2]] = doubled.astype(array.dtype), (-doubled).astype(array.dtype)
    return array


def _by_parts(change: Rewrite, array: AnyArray, member: Member, group: ChannelGroup) -> AnyArray:
    """Applies a change to each part of a tensor whose parts carry units at other places each."""
    if member.units.ndim == 1:
        return change(array, member, group)
    parts = [
        change(part, Member(member.tensor, member.axis, member.role, units), group)
        for part, units in zip(
            np.split(array, len(member.units), axis=member.across), member.units, strict=True
        )
    ]
    return np.concatenate(parts, axis=member.across)


def _rewrite(
    model: Model,
    members: Iterable[tuple[ChannelGroup, Member]],
    change: Rewrite,
    centred: bool = False,
) -> Variant:
    """Changes members one after the other; `centred`: integers less their zero points."""
    graph = view(model.proto)
    constants = Constants(model, graph)
    steps: dict[str, list[tuple[ChannelGroup, Member]]] = {}
    copies: dict[tuple[int, int], AnyArray] = {}
    for group, member in members:
        if not member.uses:
            steps.setdefault(member.tensor, []).append((group, member))
        for use in member.uses:
            node, place = (int(part) for part in use.split(":"))
            used = graph.nodes[node].inputs[place]
            axes = constants.source(used).axes
            across = axes.index(member.across) if member.across >= 0 else -1
            axis = axes.index(member.axis)
            local = Member(used, axis, member.role, member.units, across=across)
            array = copies.get((node, place))
            array = np.array(constants.array(used)) if array is None else array
            copies[node, place] = _by_parts(change, array, local, group)

    def rewritten(name: str) -> AnyArray:
        array, shifted = constants.array(name), centred and not constants.is_float(name)
        dtype = array.dtype
        array = array - constants.zero_of(name) if shifted else np.array(array)
        for group, member in steps[name]:
            array = _by_parts(change, array, member, group)
        return (array + constants.zero_of(name)).astype(dtype) if shifted else array

    return patched_variant(model, constants, Patch(tensors=Lazy(steps, rewritten), copies=copies))
