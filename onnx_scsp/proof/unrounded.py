"""A variant of a quantised model whose activations are not rounded.

A product computed in floating point and then rounded to a few steps may land on either side of a
boundary, depending on the order of its sum; one step more or less then spreads through the network
like any change of its input. Removing channels changes that order. So the oracles leave the
rounding of activations out, of both models alike: a pair QuantizeLinear, DequantizeLinear with one
scale for the tensor treats every entry alike and couples no channels. Weights stay the integers
they are.
"""

from __future__ import annotations

import onnx

_DOMAINS = ("", "ai.onnx", "com.microsoft")


def unrounded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces each pair of conversions of an activation by Identity.

    Args:
        proto: A model.

    Returns:
        The model itself where it has no such pair, else a changed copy.
    """
    wanted = _pairs(proto.graph)
    if not wanted:
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    inner = set()
    for index in wanted:
        node = copy.graph.node[index]
        if node.op_type == "QuantizeLinear":
            inner.add(node.output[0])
        node.op_type, node.domain = "Identity", ""
        del node.input[1:]
        del node.attribute[:]
    declared = [value for value in copy.graph.value_info if value.name not in inner]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(declared)
    return copy


def _pairs(graph: onnx.GraphProto) -> set[int]:
    """Indices of the nodes of all pairs."""
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            sizes[node.output[0]] = [
                size for a in node.attribute if a.name == "value" for size in a.t.dims
            ]
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    outputs = {output.name for output in graph.output}
    captured = _captured(graph)
    found: set[int] = set()
    for index, node in enumerate(graph.node):
        if not _converts(node, "QuantizeLinear", sizes) or node.input[0] in sizes:
            continue
        value = node.output[0]
        followers = readers.get(value, [])
        if value in outputs | captured or not all(
            _converts(graph.node[i], "DequantizeLinear", sizes) and graph.node[i].input[0] == value
            for i in followers
        ):
            continue
        found |= {index, *followers}
    return found


def _converts(node: onnx.NodeProto, op_type: str, sizes: dict[str, list[int]]) -> bool:
    """Whether a node converts with one scale for the whole tensor."""
    if node.op_type != op_type or node.domain not in _DOMAINS or node.input[1] not in sizes:
        return False
    return all(size == 1 for size in sizes[node.input[1]])


def _captured(graph: onnx.GraphProto) -> set[str]:
    """Names that any subgraph reads."""
    names: set[str] = set()
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= {name for n in inner.node for name in n.input} | _captured(inner)
                names |= {output.name for output in inner.output}
    return names
