"""The original with repaired constants: what the oracles compare a refitted result with.

A repair gives some constants new values before the cut. The oracles then hold against the original
with these values. Where only the files are at hand, the values come from the result, entry by entry
to the places that the plan says were kept; what was removed keeps its old value, which the oracles
zero. Constants that the plan does not name as refitted are those of the original.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from onnx_scsp.errors import PlanError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import overwrite
from onnx_scsp.graph.view import view
from onnx_scsp.types import AnyArray, BoolArray, Check, PrunePlan


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
    ours, theirs = (Constants(model, view(model.proto)) for model in (a, b))
    kept = _kept_entries(plan)
    proto = onnx.ModelProto()
    proto.CopyFrom(a.proto)
    for name in plan.refit:
        if name not in ours or name not in theirs or ours.is_derived(name):
            raise PlanError(f"the plan calls '{name}' refitted, which is no constant of both files")
        array = np.array(ours.array(name))
        entries = _entries(array.shape, kept.get(name, {}))
        found = theirs.array(name)
        if array[entries].shape != found.shape or found.dtype != array.dtype:
            raise PlanError(f"'{name}' has another shape in the result than the plan foresees")
        array[entries] = found
        overwrite(proto, name, array)
    return Model(proto, a.path, a.sha256, a.external_files)


def _kept_entries(plan: PrunePlan) -> dict[str, dict[int, BoolArray]]:
    """Tensor -> axis -> which entries stay."""
    keep = {cut.group: np.isin(np.arange(cut.n_units), cut.keep) for cut in plan.cuts}
    found: dict[str, dict[int, BoolArray]] = {}
    for group in plan.groups:
        if group.id not in keep:
            continue
        for member in group.members:
            if member.uses or member.units.ndim == 2:
                if member.tensor in plan.refit:
                    raise PlanError(
                        f"'{member.tensor}' is cut differently from place to place and cannot be "
                        "called refitted"
                    )
                continue
            stays = (member.units < 0) | keep[group.id][member.units]
            axes = found.setdefault(member.tensor, {})
            axes[member.axis] = axes.get(member.axis, np.ones(stays.size, bool)) & stays
    return found


def _entries(shape: tuple[int, ...], axes: Mapping[int, BoolArray]) -> tuple[AnyArray, ...]:
    return np.ix_(
        *(
            np.flatnonzero(axes[axis]) if axis in axes else np.arange(size)
            for axis, size in enumerate(shape)
        )
    )


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
