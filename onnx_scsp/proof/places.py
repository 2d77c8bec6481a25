"""Whether a plan's places exist in a model, before anything is proved by them.

Whoever verifies two files by a plan from somewhere has no coupling to hold it against: the places
that the twin and the permutation write to come from the plan alone.
"""

from __future__ import annotations

from onnx_scsp.errors import PlanError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.view import GraphView
from onnx_scsp.types import ChannelGroup, Member, PrunePlan, Reduction


def check_places(graph: GraphView, constants: Constants, plan: PrunePlan) -> None:
    """Holds every member and reduction against the model.

    Args:
        graph: The model's nodes.
        constants: Its constants.
        plan: The plan.

    Raises:
        PlanError: The plan names a constant, an axis or an input that the model does not have.
    """
    cut = {cut.group for cut in plan.cuts}
    for group in plan.groups:
        if group.id not in cut:
            continue
        for member in group.members:
            _check_member(graph, constants, group, member)
        for reduction in group.reductions:
            _check_reduction(graph, group, reduction)


def _check_member(
    graph: GraphView, constants: Constants, group: ChannelGroup, member: Member
) -> None:
    where = f"group {group.id} of the plan: '{member.tensor}'"
    if member.tensor not in constants:
        raise PlanError(f"{where} is no constant of the model")
    shape = constants.shape(member.tensor)
    for axis in (member.axis, member.across)[: member.units.ndim]:
        if not 0 <= axis < len(shape):
            raise PlanError(f"{where} has {len(shape)} axes, the plan speaks of axis {axis}")
    if member.units.shape[-1] != shape[member.axis]:
        raise PlanError(
            f"{where} has {shape[member.axis]} entries on axis {member.axis}, the plan gives units "
            f"to {member.units.shape[-1]}"
        )
    if member.units.ndim > 1 and shape[member.across] % member.units.shape[0]:
        raise PlanError(
            f"{where} has {shape[member.across]} entries on axis {member.across}, which "
            f"{member.units.shape[0]} parts do not share evenly"
        )
    for use in member.uses:
        _input_at(graph, use, where)


def _check_reduction(graph: GraphView, group: ChannelGroup, reduction: Reduction) -> None:
    where = f"group {group.id} of the plan: '{reduction.value}'"
    if _input_at(graph, reduction.use, where) != reduction.value:
        raise PlanError(f"{where} is not what the model has at {reduction.use}")


def _input_at(graph: GraphView, use: str, where: str) -> str:
    """Name of the value at a `node:input` place."""
    number, _, place = use.partition(":")
    if number.isdecimal() and place.isdecimal() and int(number) < len(graph.nodes):
        node = graph.nodes[int(number)]
        if node.outputs and int(place) < len(node.inputs):
            return node.inputs[int(place)]
    raise PlanError(f"{where} is used at '{use}', which is no input of the model's nodes")
