"""The operation: checks that plan and model belong together, cuts, mends, returns the new proto."""

from __future__ import annotations

import numpy as np
import onnx

from onnx_scsp.couple import Coupling, unmergeable
from onnx_scsp.couple.cover import first_unmet
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.patch import apply_patch
from onnx_scsp.ops.rule import RuleTable
from onnx_scsp.surgery.cut import cut_tensors, kept_units
from onnx_scsp.surgery.mend import mend_graph
from onnx_scsp.types import ChannelGroup, Member, PrunePlan, Reduction


def operate(
    coupling: Coupling, rules: RuleTable, plan: PrunePlan, *, same_graph: bool = False
) -> onnx.ModelProto | None:
    """Carries a plan out.

    Args:
        coupling: The model and its groups.
        rules: Operator rules.
        plan: The plan.
        same_graph: Accept a plan made for other weights of the same graph.

    Returns:
        The pruned proto, or None where the plan removes nothing.

    Raises:
        PlanError: The plan was made for another model, or disagrees with its groups.
    """
    check_plan(coupling, plan, same_graph=same_graph)
    if not plan.cuts:
        return None
    keep = kept_units(coupling, plan)
    patch = mend_graph(coupling, rules, cut_tensors(coupling, plan, keep), keep)
    return apply_patch(coupling.model, coupling.walk.constants, patch)


def check_plan(coupling: Coupling, plan: PrunePlan, *, same_graph: bool = False) -> None:
    """Refuses a plan that does not describe this model.

    Raises:
        PlanError: Hash, groups or members differ, or a tensor would be left empty.
    """
    if plan.model_sha256 != coupling.map.model_sha256 and not same_graph:
        raise PlanError(
            f"the plan was made for model {plan.model_sha256[:12]}..., this one is "
            f"{coupling.map.model_sha256[:12]}...; make a new plan, or pass --same-graph if only "
            "the weights differ"
        )
    known = {group.id: group for group in coupling.map.groups}
    for group in plan.groups:
        if group.id not in known or not _same_group(known[group.id], group):
            raise PlanError(
                f"group {group.id} of the plan is not as the model has it; members and units are "
                "not to be edited, only 'keep' and 'absorbed_by'"
            )
    for cut in plan.cuts:
        group = known[cut.group]
        if cut.absorbed_by and (why := unmergeable(coupling, group)):
            raise PlanError(
                f"group {cut.group}: no unit can take over another, because {why}; leave "
                "'absorbed_by' empty"
            )
        for removed, survivor in cut.absorbed_by.items():
            if group.profile[removed] != group.profile[survivor]:
                raise PlanError(
                    f"group {cut.group}: unit {survivor} cannot take over {removed}, they occur in "
                    "different places (profiles differ)"
                )
    empty = first_unmet(coupling.demands, kept_units(coupling, plan))
    if empty is not None:
        owner = next(
            group.id
            for group in reversed(coupling.map.groups)
            if coupling.offsets[group.id] <= empty.units[0]
        )
        raise PlanError(
            f"the plan would leave {empty.what} empty; keep at least one of its units "
            f"(group {owner})"
        )


def _same_group(ours: ChannelGroup, theirs: ChannelGroup) -> bool:
    return (
        ours.n_units == theirs.n_units
        and np.array_equal(ours.profile, theirs.profile)
        and len(ours.members) == len(theirs.members)
        and all(map(_same_member, ours.members, theirs.members))
        and len(ours.reductions) == len(theirs.reductions)
        and all(map(_same_reduction, ours.reductions, theirs.reductions))
    )


def _same_reduction(ours: Reduction, theirs: Reduction) -> bool:
    return (
        (ours.value, ours.axis, ours.use, ours.restricted)
        == (theirs.value, theirs.axis, theirs.use, theirs.restricted)
    ) and np.array_equal(ours.units, theirs.units)


def _same_member(ours: Member, theirs: Member) -> bool:
    return (
        (ours.tensor, ours.axis, ours.role, ours.uses, ours.across)
        == (theirs.tensor, theirs.axis, theirs.role, theirs.uses, theirs.across)
    ) and np.array_equal(ours.units, theirs.units)
