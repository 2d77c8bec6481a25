"""Zeros for what a plan removes, where a node runs over channels without a weight.

A mean, a maximum or a product of two activations has no slices that a twin could set to zero; there
the entries themselves are, or they are left out where the plan says that they do not count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import view
from onnx_scsp.graph.zeroing import Zeroed, slack, take, zero_entries
from onnx_scsp.types import ChannelGroup, IntArray, PrunePlan


def zero_reductions(twin: onnx.ModelProto, model: Model, plan: PrunePlan) -> None:
    """Hides what goes from every reduction that the plan touches, in place.

    Args:
        twin: A variant of the original; values have the names that they have there.
        model: The original.
        plan: The plan.
    """
    nodes = view(model.proto).nodes
    groups = {group.id: group for group in plan.groups}
    places: dict[tuple[str, int], Zeroed] = {}
    for cut in plan.cuts:
        for reduction in groups[cut.group].reductions:
            number, place = reduction.at
            stays = (reduction.units < 0) | np.isin(reduction.units, cut.keep)
            key = (nodes[number].outputs[0], place)
            if key in places:  # channels of several groups
                stays = stays & places[key].stays
            if not stays.all():
                places[key] = Zeroed(reduction.axis, stays, reduction.restricted)
    zero_entries(twin, places)


def keep_neighbours(
    variant: onnx.ModelProto,
    model: Model,
    groups: tuple[ChannelGroup, ...],
    source: Callable[[ChannelGroup, IntArray], IntArray],
) -> None:
    """Lets windows over channels see these in their old order, and permutes what they make.

    Those are the windows of an LRN, or of an AveragePool where one is written out. In place.

    Args:
        variant: The original with its units permuted.
        model: The original.
        groups: The groups.
        source: (Group, units of an axis' entries) -> for each entry the one that moved there.
    """
    nodes = view(model.proto).nodes
    order: dict[str, IntArray] = {}
    axes: dict[str, int] = {}
    for group in groups:
        for reduction in group.reductions:
            node = nodes[reduction.at[0]]
            if slack(node.proto, reduction.axis) is not None:
                before = order.get(node.outputs[0], np.arange(reduction.units.size))
                moved: IntArray = source(group, reduction.units)
                order[node.outputs[0]] = np.where(reduction.units >= 0, moved, before)
                axes[node.outputs[0]] = reduction.axis
    if not order:
        return
    changed: list[onnx.NodeProto] = []
    for proto in variant.graph.node:
        out = proto.output[0] if proto.output else ""
        if out not in order:
            changed.append(proto)
            continue
        axis = axes[out]
        first, last = slack(proto, axis) or (0, 0)
        in_order = take(proto.input[0], f"{out}__in_order", np.argsort(order[out]), axis)
        inner: IntArray = order[out][first : order[out].size - last] - first
        proto.input[0] = in_order[-1].output[0]
        proto.output[0] = f"{out}__inner"
        changed += [*in_order, proto, *take(proto.output[0], out, inner, axis)]
    kept = [node.SerializeToString() for node in changed]
    del variant.graph.node[:]
    for data in kept:
        variant.graph.node.add().ParseFromString(data)
