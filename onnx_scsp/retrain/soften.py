"""Softening: slices of units outside the plan shrink, the weights themselves stay alive.

slice <- s slice                    `reads`, `makes`, `scale`
slice <- m + s (slice - m)          `centroid`, m the mean of the slices of its cluster; units
                                    that nobody takes over are softened at their readers instead
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onnx_scsp.couple import Coupling
from onnx_scsp.retrain.members import chosen_entries, owners
from onnx_scsp.retrain.scores import scale_tensors
from onnx_scsp.types import AnyArray, BoolArray, ChannelGroup, Member, PrunePlan, Role

Constants = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Softener:
    """What happens to the tensors of a network under one plan.

    Attributes:
        masks: (constant name, bool tensor broadcastable to it): entries that shrink.
        pulls: (constant name, axis, square matrix): slices along the axis are pulled to the
            combinations of slices that the rows of the matrix say.
    """

    masks: tuple[tuple[str, Tensor], ...] = ()
    pulls: tuple[tuple[str, int, Tensor], ...] = ()

    @torch.no_grad()
    def apply(self, constants: Constants, left: float) -> None:
        """Leaves the share `left` of what is softened, in place."""
        for name, mask in self.masks:
            tensor = constants[name]
            tensor.mul_(torch.where(mask, left, 1.0).to(tensor.dtype))
        for name, axis, means in self.pulls:
            tensor = constants[name]
            flat = tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1)
            target = means.to(flat.dtype) @ flat
            pulled = (target + left * (flat - target)).reshape(tensor.movedim(axis, 0).shape)
            tensor.copy_(pulled.movedim(0, axis))


def make_softener(
    coupling: Coupling, plan: PrunePlan, slices: str, constants: Constants
) -> Softener:
    """Prepares the softening of the units that a plan lets go.

    Args:
        coupling: The network's groups.
        plan: The plan of the moment.
        slices: `reads`, `makes`, `scale`, `centroid` or `none`, as in `Schedule.slices`.
        constants: The tensors, for their shapes and devices.

    Returns:
        The softener; empty for `none`.
    """
    if slices == "none":
        return Softener()
    groups = {group.id: group for group in coupling.map.groups}
    scales = scale_tensors(coupling)
    masks: list[tuple[str, Tensor]] = []
    pulls: list[tuple[str, int, Tensor]] = []
    for cut in plan.cuts:
        group = groups[cut.group]
        gone = np.ones(group.n_units, bool)
        gone[list(cut.keep)] = False
        if slices == "centroid":
            pulls += _pulls(group, _clusters(group.n_units, cut.absorbed_by), constants)
            gone[list(cut.absorbed_by)] = False
        masks += _masks(_softened(group, slices, scales), gone, constants)
    return Softener(tuple(masks), tuple(pulls))


def _masks(
    members: list[Member], gone: BoolArray, constants: Constants
) -> list[tuple[str, Tensor]]:
    """Which entries of the members' tensors belong to units that go."""
    masks = []
    for member in members:
        if member.tensor in constants:
            tensor = constants[member.tensor]
            mask = chosen_entries(member, tuple(tensor.shape), gone)
            if mask.any():
                masks.append((member.tensor, torch.from_numpy(mask).to(tensor.device)))
    return masks


def _softened(group: ChannelGroup, slices: str, scales: frozenset[str]) -> list[Member]:
    """Members that shrink; one that only some uses of its tensor see is left to the cut."""
    whole = [member for member in group.members if not member.uses]
    if slices == "scale":
        found = [member for member in whole if member.tensor in scales]
        if found:
            return found
        slices = "makes"
    role = Role.MAKES if slices == "makes" else Role.READS
    return [member for member in whole if member.role is role]


def _clusters(n_units: int, absorbed_by: Mapping[int, int]) -> AnyArray:
    """float64 (units, units): row u averages the cluster that u is in."""
    home = np.arange(n_units)
    for removed, survivor in absorbed_by.items():
        home[removed] = survivor
    same = home[:, None] == home[None, :]
    return np.asarray(same / same.sum(axis=1, keepdims=True))


def _pulls(
    group: ChannelGroup, means: AnyArray, constants: Constants
) -> list[tuple[str, int, Tensor]]:
    """One pull per tensor axis that makes or scales units; entries of other groups stay."""
    found = []
    for member in group.members:
        if member.role is Role.READS or member.uses or member.tensor not in constants:
            continue
        if member.across >= 0:
            continue
        tensor = constants[member.tensor]
        matrix = _along_axis(owners(member, tuple(tensor.shape)).reshape(-1), means)
        if matrix is not None:
            found.append((member.tensor, member.axis, torch.from_numpy(matrix).to(tensor.device)))
    return found


def _along_axis(units: AnyArray, means: AnyArray) -> AnyArray | None:
    """The matrix of means for the entries of one axis; None where a unit has several entries."""
    mine = units[units >= 0]
    if np.unique(mine).size != mine.size:
        return None
    matrix = np.eye(units.size)
    places = np.flatnonzero(units >= 0)
    found = means[np.ix_(mine, mine)]
    matrix[np.ix_(places, places)] = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-300)
    return np.asarray(matrix)


def cut_mask(coupling: Coupling, plan: PrunePlan, constants: Constants) -> Softener:
    """Silences what a plan lets go: the network then computes what the cut network will.

    Where a node runs over a group without a weight, there is no reader to silence: filters and what
    scales them are. (A Sigmoid between makes something of nothing; the figure is then rough.)
    """
    reads = make_softener(coupling, plan, "reads", constants)
    groups = {group.id: group for group in coupling.map.groups}
    masks = list(reads.masks)
    for cut in plan.cuts:
        group = groups[cut.group]
        if group.reductions:
            gone = ~np.isin(np.arange(group.n_units), cut.keep)
            made = [m for m in group.members if m.role is not Role.READS and not m.uses]
            masks += _masks(made, gone, constants)
    return Softener(tuple(masks), reads.pulls)


def kept_by_group(coupling: Coupling, plan: PrunePlan) -> dict[str, BoolArray]:
    """Group id -> bool (units,): which ones a plan keeps."""
    found = {group.id: np.ones(group.n_units, bool) for group in coupling.map.groups}
    for cut in plan.cuts:
        found[cut.group][:] = False
        found[cut.group][list(cut.keep)] = True
    return found
