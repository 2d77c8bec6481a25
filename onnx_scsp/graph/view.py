"""A read-only view of the graph: nodes with decoded attributes, producers, consumers.

Read directly from the proto through `onnx.helper`: a round trip through a second representation
drops or refuses parts of valid models (Optional outputs, attributes that are not UTF-8, subgraphs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx
from onnx import helper


@dataclass(frozen=True, slots=True, eq=False)
class NodeView:
    """One node.

    Attributes:
        index: Position in `graph.node`.
        name: The node's name, or its first output's where it has none.
        op_type: Operator.
        domain: Operator domain, '' for the default one.
        inputs: Input value names, '' where an optional input is absent.
        outputs: Output value names.
        proto: The node itself, for shape inference.
        captured: Names that its subgraph bodies take from the enclosing graph.
    """

    index: int
    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: onnx.NodeProto
    captured: tuple[str, ...]

    @property
    def label(self) -> str:
        """`name (op)` for messages."""
        return f"{self.name} ({self.op_type})"

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute value as Python data (strings decoded, tensors as TensorProto)."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return default

    @property
    def has_body(self) -> bool:
        """Whether the node runs a graph of its own (If, Loop, Scan)."""
        bodies = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        return any(attribute.type in bodies for attribute in self.proto.attribute)

    def has_attr(self, name: str) -> bool:
        """Whether the attribute is present."""
        return any(attribute.name == name for attribute in self.proto.attribute)

    def input(self, index: int) -> str:
        """Name of input `index`, '' where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True, slots=True, eq=False)
class GraphView:
    """Nodes in file order (which ONNX requires to be topological) and their links."""

    nodes: tuple[NodeView, ...]
    producers: Mapping[str, NodeView]
    consumers: Mapping[str, tuple[NodeView, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def view(proto: onnx.ModelProto) -> GraphView:
    """Builds the view of a model's main graph.

    Args:
        proto: The model.

    Returns:
        The view; `inputs` leaves out initializers that old files list as inputs too.
    """
    nodes = tuple(_node(index, node) for index, node in enumerate(proto.graph.node))
    consumers: dict[str, list[NodeView]] = {}
    for node in nodes:
        for name in dict.fromkeys((*node.inputs, *node.captured)):
            if name:
                consumers.setdefault(name, []).append(node)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    return GraphView(
        nodes=nodes,
        producers=MappingProxyType({out: node for node in nodes for out in node.outputs if out}),
        consumers=MappingProxyType({name: tuple(users) for name, users in consumers.items()}),
        inputs=tuple(i.name for i in proto.graph.input if i.name not in initializers),
        outputs=tuple(output.name for output in proto.graph.output),
    )


def _node(index: int, node: onnx.NodeProto) -> NodeView:
    return NodeView(
        index=index,
        name=node.name or next((name for name in node.output if name), f"node {index}"),
        op_type=node.op_type,
        domain="" if node.domain == "ai.onnx" else node.domain,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        proto=node,
        captured=tuple(sorted(_captured(node))),
    )


def _captured(node: onnx.NodeProto) -> set[str]:
    names: set[str] = set()
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            names |= _free_names(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                names |= _free_names(graph)
    return names


def _free_names(graph: onnx.GraphProto) -> set[str]:
    bound = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    free: set[str] = set()
    for node in graph.node:
        free |= {name for name in node.input if name and name not in bound}
        free |= {name for name in _captured(node) if name not in bound}
        bound |= set(node.output)
    return free | {output.name for output in graph.output if output.name not in bound}
