"""Ifs that always take the same branch, where the branches only move what they are given.

Exporters write `x.squeeze(1)` as an If on the size of axis 1, with a Squeeze in one branch and an
Identity in the other. Such an If can be followed through the branch that runs, provided that the
condition is the same whatever the inputs are (`graph.settled` proves that, or it stays open). The
other branch may do no more than move values either: the runtime checks its shapes, too, and after a
cut they are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx
from onnx import helper

from onnx_scsp.graph.constants import Constants, tensor_array
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.routes import Move, Route, Routes
from onnx_scsp.graph.settled import Settled
from onnx_scsp.graph.view import GraphView, NodeView


def find_routes(model: Model, graph: GraphView, constants: Constants) -> Routes:
    """Finds the Ifs that can be followed.

    Args:
        model: The model.
        graph: Its view.
        constants: Its constants.

    Returns:
        The routes of every If whose condition never changes and whose branches, both of them, do
        nothing but move values of the graph around them.
    """
    if any(function.domain in ("", "ai.onnx") for function in model.proto.functions):
        return MappingProxyType({})  # operators of these names may do something else here
    pending = {}
    for node in graph.nodes:
        if node.op_type == "If" and not node.domain and all(node.outputs):
            both = [_trace(node, name, model, constants) for name in ("then_branch", "else_branch")]
            if all(both) and all(len(found) == len(node.outputs) for found in both):
                pending[node.index] = both
    routes: dict[int, tuple[Route, ...]] = {}
    while pending:
        known = Settled(model, graph, constants, routes)
        taken = {index: known.condition(graph.nodes[index]) for index in pending}
        fresh = {i: pending.pop(i)[0 if yes else 1] for i, yes in taken.items() if yes is not None}
        if not fresh:
            break
        routes.update(fresh)  # the sizes of what these make may settle the next
    return MappingProxyType(routes)


def _trace(node: NodeView, name: str, model: Model, constants: Constants) -> tuple[Route, ...]:
    """One route per output of a branch; none where it does more than move values."""
    body = node.attr(name)
    if not isinstance(body, onnx.GraphProto):
        return ()
    own = {tensor.name: tensor for tensor in body.initializer}
    routes: dict[str, Route] = {}
    for inner in body.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in inner.attribute}
        if inner.op_type == "Constant" and isinstance(attributes.get("value"), onnx.TensorProto):
            own[inner.output[0]] = attributes["value"]
            continue
        axes = [_integers(name, own, model, constants) for name in inner.input[1:]]
        move = _move(inner, attributes, axes)
        if move is None or inner.input[0] in own:
            return ()
        before = routes.get(inner.input[0], Route(inner.input[0]))
        routes[inner.output[0]] = Route(before.source, (*before.moves, move))
    if any(output.name not in routes for output in body.output):
        return ()
    return tuple(routes[output.name] for output in body.output)


def _integers(
    name: str, own: Mapping[str, onnx.TensorProto], model: Model, constants: Constants
) -> list[int] | None:
    """A constant of the branch or of the graph around it."""
    if name in own:
        return [int(axis) for axis in tensor_array(own[name], model.folder).reshape(-1)]
    if name in constants:
        return [int(axis) for axis in constants.array(name).reshape(-1)]
    return None


def _move(
    node: onnx.NodeProto, attributes: Mapping[str, object], operands: list[list[int] | None]
) -> Move | None:
    """A node of a branch as a move; None where it is none, or its axes are unknown."""
    if node.domain not in ("", "ai.onnx") or not node.input:
        return None
    if node.op_type == "Identity":
        return Move("Identity")
    key = {"Transpose": "perm", "Squeeze": "axes", "Unsqueeze": "axes"}.get(node.op_type)
    if key is None:
        return None
    given = operands[0] if operands else attributes.get(key)
    return Move(node.op_type, tuple(given)) if isinstance(given, list) else None
