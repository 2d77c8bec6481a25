"""The original with repaired constants: what the oracles compare a refitted result with.

A repair gives some constants new values before the cut. The oracles then hold against the original
with these values. Where only the files are at hand, the values come from the result, entry by entry
to the places that the plan says were kept; what was removed keeps its old value, which the oracles
zero, and what a survivor's slices took over of it is subtracted again. Constants that the plan does
not name as refitted are those of the original.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.errors import PlanError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import Patch, apply_patch
from onnx_scsp.graph.view import GraphView, view
from onnx_scsp.types import AnyArray, BoolArray, Check, PrunePlan, Role


def put_back(a: Model, b: Model, plan: PrunePlan) -> Model:
    """The original with the refitted constants of the result in their old places.

    Args:
        a: The original.
        b: The result.
        plan: The plan that led from a to b.

    Returns:
        A model of the original's shapes, under the original's hash.

    Raises:
        PlanError: The plan names a constant that the files do not have, or of another shape.
    """
    graph = view(a.proto)
    ours, theirs = Constants(a, graph), Constants(b, view(b.proto))
    tensors: dict[str, AnyArray] = {}
    for stored in plan.refit:
        name = _in_result(stored, graph, theirs)
        if stored not in ours or ours.is_derived(stored) or not name:
            raise PlanError(
                f"the plan calls '{stored}' refitted, which is no constant of both files"
            )
        array, found = np.array(ours.array(name)), theirs.array(name)
        stays, across = _stays(plan, name, array.shape)
        counts = tuple(int(stays.sum(axis=axis).max()) for axis in range(stays.ndim))
        if found.dtype != array.dtype or found.shape != counts or found.size != stays.sum():
            raise PlanError(f"'{name}' has another shape in the result than the plan foresees")
        # with the parts outermost, what stays lies in the same order in both files
        np.moveaxis(array, across, 0)[np.moveaxis(stays, across, 0)] = np.moveaxis(
            found, across, 0
        ).reshape(-1)
        _take_back(plan, name, array, ours.array(name))
        tensors[stored] = array.reshape(ours.shape(stored))
    proto = apply_patch(a, ours, Patch(tensors=tensors))
    return Model(proto, a.path, a.sha256, a.external_files)


def _in_result(name: str, graph: GraphView, theirs: Constants) -> str:
    """A constant's name in the result: its own, or that of its reshaped form which was cut."""
    while name not in theirs:
        users = graph.consumers.get(name, ())
        if len(users) != 1 or users[0].op_type != "Reshape" or users[0].inputs[0] != name:
            return ""
        name = users[0].outputs[0]
    return name


def _take_back(plan: PrunePlan, name: str, array: AnyArray, old: AnyArray) -> None:
    """Subtracts from the survivors' slices what the cut adds to them."""
    cuts = {cut.group: cut for cut in plan.cuts if cut.absorbed_by}
    for group in plan.groups:
        for member in group.members:
            if member.tensor == name and member.role is Role.READS and group.id in cuts:
                rows = np.atleast_2d(member.units)
                across = max(member.across, 0) if len(rows) > 1 else member.axis
                views = np.split(array, len(rows), across) if len(rows) > 1 else [array]
                parts = np.split(old, len(rows), across) if len(rows) > 1 else [old]
                for row, view_, part in zip(rows, views, parts, strict=True):
                    slices = np.moveaxis(view_, member.axis, 0)
                    added = np.moveaxis(part, member.axis, 0)
                    for removed, survivor in cuts[group.id].absorbed_by.items():
                        scale = cuts[group.id].scales.get(removed, 1.0)
                        slices[row == survivor] -= (scale * added[row == removed]).astype(old.dtype)


def _stays(plan: PrunePlan, name: str, shape: tuple[int, ...]) -> tuple[BoolArray, int]:
    """Which entries of a tensor stay, and the axis whose parts keep other entries each, or 0."""
    kept = {cut.group: np.isin(np.arange(cut.n_units), cut.keep) for cut in plan.cuts}
    stays, across = np.ones(shape, bool), 0
    for group in plan.groups:
        for member in group.members:
            if member.tensor != name or group.id not in kept:
                continue
            if member.uses:
                raise PlanError(f"'{name}' is cut for every use by itself, it cannot be refitted")
            if member.axis >= len(shape) or member.units.shape[-1] != shape[member.axis]:
                raise PlanError(f"'{name}' has another shape than the plan says")
            here = (member.units < 0) | kept[group.id][member.units]
            wide = [1] * len(shape)
            if here.ndim == 2:
                across = member.across
                here = np.repeat(here, shape[across] // len(here), axis=0)
                here = here if across < member.axis else here.T
                wide[across] = shape[across]
            wide[member.axis] = shape[member.axis]
            stays &= here.reshape(wide)
    return stays, across


def check_only_values(a: Model, repaired: Model, plan: PrunePlan) -> Check:
    """Whether the repair changed the values of the constants that the plan names, and no more."""
    wanted = {tensor.name: tensor for tensor in a.proto.graph.initializer}
    changed = {
        tensor.name
        for tensor in repaired.proto.graph.initializer
        if tensor != wanted.get(tensor.name)
    }
    changed |= {
        name
        for old, new in zip(a.proto.graph.node, repaired.proto.graph.node, strict=True)
        if old != new
        for name in new.output
    }
    strangers = sorted(changed - set(plan.refit))
    names = f"{len(changed)} constants took new values"
    detail = f"'{strangers[0]}' differs and is not named in the plan" if strangers else names
    return Check("repair", not strangers, float(len(changed)), None, detail)
