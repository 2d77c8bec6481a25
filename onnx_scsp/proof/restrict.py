"""LayerNormalization over the channels that stay, for the twin of a plan that cuts it.

Zeros would count in a mean as any other value does. In the twin, therefore,

    y = LayerNormalization(x, scale, bias)     becomes, with K the places that stay,
    y[K] = LayerNormalization(x[K], scale[K], bias[K]),  y[elsewhere] = 0

Which places stay, the plan says: they are those of the scale, which is a member.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import NodeView, view
from onnx_scsp.types import BoolArray, PrunePlan, Role

_SCALE = 1
"""Place of the input that spells a factor for each normalised channel."""


def restrict_statistics(twin: onnx.ModelProto, model: Model, plan: PrunePlan) -> None:
    """Rewrites, in place, every LayerNormalization that the plan cuts.

    Args:
        twin: A variant of the original; values have the names that they have there.
        model: The original.
        plan: The plan.
    """
    graph = view(model.proto)
    constants = Constants(model, graph)
    cut: dict[str, BoolArray] = {}
    for node in graph.nodes:
        stays = _stays(node, constants, plan)
        if stays is not None and not stays.all():
            cut[node.outputs[0]] = stays
    if not cut:
        return
    nodes: list[onnx.NodeProto] = []
    for proto in twin.graph.node:
        out = proto.output[0] if proto.output else ""
        nodes.extend(_restricted(twin, proto, cut[out]) if out in cut else [proto])
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del twin.graph.node[:]
    twin.graph.node.extend(kept)


def _stays(node: NodeView, constants: Constants, plan: PrunePlan) -> BoolArray | None:
    """Which entries of a normalisation's scale stay; None for other nodes."""
    if (node.domain, node.op_type) != ("", "LayerNormalization"):
        return None
    if node.input(_SCALE) not in constants:
        return None
    source = constants.source(node.inputs[_SCALE]).name
    gone = None
    groups = {group.id: group for group in plan.groups}
    for cut in plan.cuts:
        for member in groups[cut.group].members:
            here = not member.uses or f"{node.index}:{_SCALE}" in member.uses
            if (member.tensor, member.role) == (source, Role.SCALES) and here:
                found = (member.units >= 0) & ~np.isin(member.units, cut.keep)
                gone = found if gone is None else gone | found
    return None if gone is None else ~gone


def _restricted(
    twin: onnx.ModelProto, node: onnx.NodeProto, stays: BoolArray
) -> list[onnx.NodeProto]:
    out, places = node.output[0], np.flatnonzero(stays)
    back = np.where(stays, np.cumsum(stays) - 1, 0)
    names = {key: f"{out}__{key}" for key in ("places", "back", "mask", "factor", "spread")}
    twin.graph.initializer.append(numpy_helper.from_array(places, names["places"]))
    twin.graph.initializer.append(numpy_helper.from_array(back, names["back"]))
    twin.graph.initializer.append(numpy_helper.from_array(stays, names["mask"]))
    inputs, nodes = [], []
    for place, name in enumerate(node.input):
        kept = f"{out}__kept{place}" if name else ""
        if name:
            axis = -1 if place == 0 else 0
            nodes.append(helper.make_node("Gather", [name, names["places"]], [kept], axis=axis))
        inputs.append(kept)
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    del inner.input[:], inner.output[:]
    inner.input.extend(inputs)
    inner.output.append(f"{out}__inner")
    nodes.append(inner)
    spread = [inner.output[0], names["back"]]
    nodes.append(helper.make_node("Gather", spread, [names["spread"]], axis=-1))
    nodes.append(helper.make_node("CastLike", [names["mask"], names["spread"]], [names["factor"]]))
    nodes.append(helper.make_node("Mul", [names["spread"], names["factor"]], [out]))
    return nodes
