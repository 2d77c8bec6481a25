"""Linear layers as matrices: which nodes a regression can refit, and where they are stored.

A layer computes, for each of its G groups and every output position,

    y = M^T r + b      M: (D, O), r: the D inputs that the position sees, b: (O,)

with D = input channels per group x taps (channels outermost) and O = outputs per group. Conv,
ConvTranspose, Gemm and MatMul differ only in how M is laid out in the stored tensor and in which
inputs a position sees (see `rows`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.view import GraphView, NodeView
from onnx_scsp.types import AnyArray, BoolArray, FloatArray

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that `linear_layers` understands, in the default domain."""


@dataclass(frozen=True)
class Linear:
    """One node that multiplies activations by a constant matrix.

    Attributes:
        node: The node.
        x: Name of the activation it reads.
        weight: Name of the constant, as the node uses it.
        shape: Its shape, as the node uses it.
        bias: Stored name of the vector that is added to the outputs, '' where there is none.
        bias_sign: -1 where the vector is subtracted (a normalisation's mean), else 1.
        bias_outside: Whether a later node adds the vector, so that the output is without it.
        norm: The normalisation that is the only reader of the output, or None.
    """

    node: NodeView
    x: str
    weight: str
    shape: tuple[int, ...]
    bias: str
    bias_sign: float
    bias_outside: bool
    norm: NodeView | None

    @property
    def y(self) -> str:
        """Name of the output."""
        return self.node.outputs[0]

    @property
    def is_conv(self) -> bool:
        """Whether positions are spatial."""
        return self.node.op_type in ("Conv", "ConvTranspose")

    @property
    def axis(self) -> int:
        """Where its inputs and outputs have their channels."""
        return 1 if self.is_conv else -1

    @cached_property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.node.attr("group", 1)) if self.is_conv else 1

    @cached_property
    def taps(self) -> int:
        """Kernel positions per input channel."""
        return int(np.prod(self.shape[2:], dtype=np.int64)) if self.is_conv else 1

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(self.node.attr("transB", 0))

    @cached_property
    def inputs(self) -> int:
        """Input channels, over all groups."""
        if self.node.op_type == "Conv":
            return self.shape[1] * self.groups
        if self.node.op_type == "ConvTranspose":
            return self.shape[0]
        return self.shape[1] if self._transposed else self.shape[0]

    @cached_property
    def outputs(self) -> int:
        """Output channels, over all groups."""
        if self.node.op_type == "Conv":
            return self.shape[0]
        if self.node.op_type == "ConvTranspose":
            return self.shape[1] * self.groups
        return self.shape[0] if self._transposed else self.shape[1]

    def to_matrix(self, weight: AnyArray) -> FloatArray:
        """The weight, as the node uses it -> float64 (G, D, O)."""
        g, taps = self.groups, self.taps
        array = np.asarray(weight, np.float64)
        if self.node.op_type == "Conv":
            return np.ascontiguousarray(array.reshape(g, self.outputs // g, -1).transpose(0, 2, 1))
        if self.node.op_type == "ConvTranspose":
            split = array.reshape(g, self.inputs // g, self.outputs // g, taps)
            return np.ascontiguousarray(
                split.transpose(0, 1, 3, 2).reshape(g, -1, self.outputs // g)
            )
        array = array.T if self._transposed else array
        return np.ascontiguousarray(array)[None] * float(self.node.attr("alpha", 1.0))

    def from_matrix(self, matrix: FloatArray) -> FloatArray:
        """Inverse of `to_matrix`."""
        g, taps = self.groups, self.taps
        if self.node.op_type == "Conv":
            return np.asarray(matrix.transpose(0, 2, 1).reshape(self.shape))
        if self.node.op_type == "ConvTranspose":
            split = matrix.reshape(g, self.inputs // g, taps, self.outputs // g)
            return np.asarray(split.transpose(0, 1, 3, 2).reshape(self.shape))
        array = matrix[0] / float(self.node.attr("alpha", 1.0))
        return np.asarray(array.T if self._transposed else array)


def linear_layers(coupling: Coupling) -> tuple[Linear, ...]:
    """Every layer that a regression can refit, in graph order.

    Left out: weights that are computed, quantised, or used by several nodes.
    """
    graph, constants = coupling.walk.graph, coupling.walk.constants
    uses = _use_counts(graph)
    found = []
    for node in graph.nodes:
        layer = _linear(node, graph, constants, uses)
        if layer is not None:
            found.append(layer)
    return tuple(found)


def _use_counts(graph: GraphView) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(graph.outputs, 1)
    for node in graph.nodes:
        for name in (*node.inputs, *node.captured):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _linear(
    node: NodeView, graph: GraphView, constants: Constants, uses: dict[str, int]
) -> Linear | None:
    if node.domain or node.op_type not in LINEAR or len(node.inputs) < 2:
        return None
    x, weight = node.inputs[:2]
    if x in constants or weight not in constants or not _is_own(weight, constants, uses):
        return None
    shape = constants.shape(weight)
    if len(shape) < 2 or (node.op_type == "MatMul" and len(shape) != 2):
        return None
    if node.op_type == "Gemm" and node.attr("transA", 0):
        return None
    users = graph.consumers.get(node.outputs[0], ())
    norm = users[0] if _is_norm(node, users, graph, constants) else None
    draft = Linear(node, x, weight, shape, "", 1.0, False, norm)
    return replace(draft, **_bias(draft, graph, constants, uses))


def _is_own(name: str, constants: Constants, uses: dict[str, int]) -> bool:
    """Whether a constant is stored as floats for this one use, behind nothing but views."""
    source = constants.source(name)
    if source.quantised or constants.is_derived(source.name) or not constants.is_float(source.name):
        return False
    while name != source.name:
        if uses.get(name, 0) != 1:
            return False
        name = constants.node(name).inputs[0]
    return uses.get(name, 0) == 1


def _is_norm(
    node: NodeView, users: tuple[NodeView, ...], graph: GraphView, constants: Constants
) -> bool:
    return (
        len(users) == 1
        and users[0].op_type == "BatchNormalization"
        and not users[0].domain
        and not users[0].attr("training_mode", 0)
        and all(name in constants for name in users[0].inputs[1:5])
        and users[0].inputs[0] == node.outputs[0]
        and node.outputs[0] not in graph.outputs
        and node.op_type in ("Conv", "ConvTranspose", "Gemm")
    )


def _bias(
    layer: Linear, graph: GraphView, constants: Constants, uses: dict[str, int]
) -> dict[str, Any]:
    """Stored name of the vector that shifts the outputs, its sign, and where it is added."""
    node, y = layer.node, handed_on(graph, layer.y)
    users = graph.consumers.get(y, ())
    if node.op_type != "MatMul" and node.input(2):
        beta = float(node.attr("beta", 1.0)) if node.op_type == "Gemm" else 1.0
        candidates = [(node.input(2), 1.0, False, -1)] if beta == 1.0 else []
    elif layer.norm is not None:
        candidates = [(layer.norm.inputs[3], -1.0, True, -1)]
    elif len(users) == uses.get(y, 0) == 1 and users[0].op_type == "Add" and not users[0].domain:
        # its channels lie on the layer's axis, counted from the last as they are broadcast
        axis = layer.axis - (len(layer.shape) if layer.is_conv else 0)
        candidates = [(name, 1.0, True, axis) for name in users[0].inputs if name != y]
    else:
        candidates = []
    for name, sign, outside, axis in candidates:
        if (
            name in constants
            and constants.size(name) == layer.outputs
            and _size_at(constants.shape(name), axis) == layer.outputs
        ):
            stored = _stored_vector(name, constants, uses)
            if stored:
                return {"bias": stored, "bias_sign": sign, "bias_outside": outside}
    return {}


def _stored_vector(name: str, constants: Constants, uses: dict[str, int]) -> str:
    """Where a vector is stored for this one use, behind views and reshapes; '' where it is not."""
    size = constants.size(name)
    while constants.is_derived(name) and constants.node(name).op_type == "Reshape":
        if uses.get(name, 0) != 1 or size not in constants.shape(constants.node(name).inputs[0]):
            return ""
        name = constants.node(name).inputs[0]
    return constants.source(name).name if _is_own(name, constants, uses) else ""


def handed_on(graph: GraphView, value: str) -> str:
    """The last name of a value that nothing but an Identity reads."""
    users = graph.consumers.get(value, ())
    while len(users) == 1 and users[0].op_type == "Identity" and value not in graph.outputs:
        value = users[0].outputs[0]
        users = graph.consumers.get(value, ())
    return value


def standing_bias(layer: Linear, constants: Constants) -> FloatArray | None:
    """What a layer's own third input adds where that cannot be refitted, being shared, say.

    Returns:
        float64 (outputs,), zeros where there is no such input; None where it is no constant vector.
    """
    name = layer.node.input(2)
    if layer.bias or not name:
        return np.zeros(layer.outputs)
    if name not in constants or constants.size(name) not in (1, layer.outputs):
        return None
    vector = np.asarray(constants.array(name), np.float64)
    if vector.size > 1 and vector.shape[-1] == 1:
        return None  # one value for each row of a Gemm
    beta = float(layer.node.attr("beta", 1.0)) if layer.node.op_type == "Gemm" else 1.0
    return np.array(np.broadcast_to(beta * vector.reshape(-1), (layer.outputs,)))


def _size_at(shape: tuple[int, ...], axis: int) -> int:
    """Size along an axis that is counted from the last; 1 where a shape has none there."""
    return shape[axis] if len(shape) >= -axis else 1


def kept_inputs(coupling: Coupling, layer: Linear, keep: BoolArray) -> BoolArray:
    """Bool (input channels,): which of a layer's inputs stay under a choice of units."""
    units = input_units(coupling, layer.x, layer.inputs, layer.axis)
    return np.asarray((units < 0) | keep[units])


def input_units(coupling: Coupling, value: str, size: int, axis: int) -> AnyArray:
    """Global unit of every entry along a value's channel axis, -1 where none."""
    labels = coupling.activations.get(value)
    if labels is None:
        return np.full(size, -1)
    moved = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)[:, 0]
    return np.broadcast_to(moved, (size,)) if moved.size == 1 else moved


def downstream(graph: GraphView, names: Iterable[str]) -> set[str]:
    """Values that depend on any of `names`, themselves included."""
    found = set(names)
    for node in graph.nodes:
        if any(name in found for name in (*node.inputs, *node.captured)):
            found |= {name for name in node.outputs if name}
    return found
