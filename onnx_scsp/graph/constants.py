"""Constants of a model, wherever they sit, and the way from a use back to the stored tensor.

Exporters keep weights in initializers, in Constant nodes, in ConstantOfShape nodes, or behind
Identity, Cast, Transpose, Unsqueeze, Squeeze, QuantizeLinear and DequantizeLinear.
`Constants.source` follows such a chain and says which axis of the stored tensor each axis of the
used one is. A constant that is computed by other operators is its own source, under the name of the
value; cutting it replaces its computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_scsp.errors import InternalError
from onnx_scsp.graph.model import Model, byte_count, external_entries, is_external
from onnx_scsp.graph.quantised import (
    Code,
    Companion,
    coding,
    dequantise,
    is_quantiser,
    quantise,
    real_values,
    spread,
)
from onnx_scsp.graph.view import GraphView, NodeView
from onnx_scsp.types import AnyArray

FOLDABLE = frozenset(
    (
        "Abs Add And Cast Ceil Clip Concat ConstantOfShape Div Equal Exp Expand Flatten Floor "
        "Gather Greater Identity Less Max Min Mod Mul Neg Not Or Pow Range Reciprocal ReduceMax "
        "ReduceMin ReduceProd ReduceSum Reshape Shape Sign Size Slice Split Sqrt Squeeze Sub Tile "
        "Transpose Unsqueeze Where"
    ).split()
)
"""Operators that are evaluated when all their inputs are known. All of them are cheap and pure."""

_FIRST_REFERENCE_QUANTISER = 19
"""Operator set from which ONNX's reference implementation knows (De)QuantizeLinear."""

_VIEWS = frozenset({"Identity", "Cast", "Transpose", "Unsqueeze", "Squeeze"})
FLOATS = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
    }
)
"""Element types of real numbers."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a used constant is stored.

    Attributes:
        name: Name of the stored tensor.
        axes: For each axis of the used tensor the axis of the stored one, -1 for inserted axes.
        quantised: Whether the way leads through QuantizeLinear or DequantizeLinear.
    """

    name: str
    axes: tuple[int, ...]
    quantised: bool = False


class Constants:
    """Lazy access to every constant of a model's main graph."""

    def __init__(self, model: Model, graph: GraphView) -> None:
        self._folder = model.folder
        self._graph = graph
        self._opsets = model.opsets
        self._tensors: dict[str, onnx.TensorProto] = {
            tensor.name: tensor for tensor in model.proto.graph.initializer
        }
        self._initializers = frozenset(self._tensors)
        self._derived: dict[str, NodeView] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for node in graph.nodes:
            self._scan(node)

    def _scan(self, node: NodeView) -> None:
        if (node.domain and not is_quantiser(node)) or len(node.outputs) != 1:
            return
        if node.op_type == "Constant":
            tensor = _constant_tensor(node)
            if tensor is not None:
                self._tensors[node.outputs[0]] = tensor
        elif (
            (node.op_type in FOLDABLE or is_quantiser(node))
            and node.inputs
            and all(name in self for name in node.inputs if name)
        ):
            self._derived[node.outputs[0]] = node

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._derived

    def names(self) -> Iterator[str]:
        """Stored constants: initializers, Constant nodes, ConstantOfShape nodes."""
        yield from self._tensors
        yield from (name for name in self._derived if self.is_generated(name))

    def is_initializer(self, name: str) -> bool:
        """Whether the constant is an initializer of the graph."""
        return name in self._initializers

    def is_generated(self, name: str) -> bool:
        """Whether a ConstantOfShape node fills the constant."""
        return name in self._derived and self._derived[name].op_type == "ConstantOfShape"

    def is_derived(self, name: str) -> bool:
        """Whether the constant is computed from others."""
        return name in self._derived

    def node(self, name: str) -> NodeView:
        """The node that computes or holds a constant that is no initializer."""
        return self._graph.producers[name]

    def is_float(self, name: str) -> bool:
        """Whether the stored constant holds floating-point numbers."""
        if name in self._tensors:
            return self._tensors[name].data_type in FLOATS
        value = self._derived[name].attr("value")
        return value is None or value.data_type in FLOATS

    def elem_type(self, name: str) -> int:
        """ONNX element type of a stored constant."""
        return int(self._tensors[name].data_type)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the constant, without reading its data where that can be avoided."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        if name not in self._shapes:
            self._shapes[name] = self._derived_shape(name)
        return self._shapes[name]

    def _derived_shape(self, name: str) -> tuple[int, ...]:
        node = self._derived[name]
        if node.op_type == "ConstantOfShape":
            return tuple(int(size) for size in self.array(node.inputs[0]).reshape(-1))
        if self._is_view(node):
            shape = self.shape(node.inputs[0])
            return tuple(shape[axis] if axis >= 0 else 1 for axis in self._view_axes(node))
        return tuple(self.array(name).shape)

    def size(self, name: str) -> int:
        """Number of elements."""
        return int(np.prod(self.shape(name), dtype=np.int64))

    def source(self, name: str) -> Source:
        """Follows views back to the stored tensor.

        Args:
            name: A constant, as a node uses it.

        Returns:
            The stored tensor's name and the axis mapping.
        """
        node = self._derived.get(name)
        if node is None or not self._is_view(node):
            return Source(name, tuple(range(len(self.shape(name)))))
        inner = self.source(node.inputs[0])
        axes = tuple(inner.axes[axis] if axis >= 0 else -1 for axis in self._view_axes(node))
        return Source(inner.name, axes, inner.quantised or is_quantiser(node))

    def _is_view(self, node: NodeView) -> bool:
        return node.op_type in _VIEWS or (is_quantiser(node) and not self._has_blocks(node))

    def _has_blocks(self, node: NodeView) -> bool:
        """Scales for blocks of entries (operator set 21) belong to no single entry of an axis."""
        return bool(node.attr("block_size", 0)) or len(self.shape(node.inputs[1])) > 1

    def is_blocked(self, name: str) -> bool:
        """Whether the constant is quantised in blocks."""
        node = self._derived.get(name)
        if node is None:
            return False
        if is_quantiser(node) and self._has_blocks(node):
            return True
        return self._is_view(node) and self.is_blocked(node.inputs[0])

    def companions(self, node: NodeView, place: int) -> tuple[Companion, ...]:
        """Vectors of scales and zero points that belong to a constant input of a node.

        Args:
            node: The node that uses the constant.
            place: Which input it is.

        Returns:
            Those that the node itself spells, and those on the way to the stored tensor.
        """
        name = node.inputs[place]
        source, rule = self.source(name), coding(node, place)
        found: list[Companion] = []
        for operand in (*rule.scales, rule.zero) if rule is not None else ():
            vector = node.input(operand) if operand >= 0 else ""
            if rule is not None and vector in self and self.size(vector) > 1:
                axis = source.axes[rule.axis]
                found.append(Companion(f"{node.index}:{operand}", vector, axis))
        maker = self._derived.get(name)
        if maker is not None and self._is_view(maker):
            found.extend(self.companions(maker, 0))
        return tuple(found)

    @cached_property
    def _codes(self) -> dict[str, Code]:
        """Stored integer tensor -> what it stands for, from the first node that says so."""
        codes: dict[str, Code] = {}
        for node in self._graph.nodes:
            for place, name in enumerate(node.inputs):
                rule = coding(node, place) if name in self else None
                if rule is None or self.is_blocked(name) or not self.shape(name):
                    continue
                source = self.source(name)
                if self.is_derived(source.name) or self.is_float(source.name):
                    continue
                scales = [node.input(scale) for scale in rule.scales]
                zero = node.input(rule.zero) if rule.zero >= 0 else ""
                rank = len(source.axes)
                axis = source.axes[rule.axis] if -rank <= rule.axis < rank else 0
                known = tuple(scale for scale in scales if scale in self)
                codes.setdefault(source.name, Code(known, zero if zero in self else "", axis))
        return codes

    @cached_property
    def code_tensors(self) -> frozenset[str]:
        """Stored scales and zero points: they say what other numbers mean, nothing of their own."""
        found: set[str] = set()
        for node in self._graph.nodes:
            for place in range(len(node.inputs)):
                rule = coding(node, place)
                if rule is not None:
                    places = [p for p in (*rule.scales, rule.zero) if p >= 0]
                    found |= {self.source(n).name for n in map(node.input, places) if n in self}
        return frozenset(found)

    def is_parameter(self, name: str) -> bool:
        """Whether a stored constant holds parameters: real numbers, or integers that code them."""
        return self.is_float(name) or name in self._codes

    def real(self, name: str) -> AnyArray:
        """A constant's values, as the real numbers that they stand for."""
        array = self.array(name)
        code = self._codes.get(name)
        if code is None:
            return array
        zero = self.array(code.zero) if code.zero else np.zeros(1)
        return real_values(array, zero, [self.array(scale) for scale in code.scales], code.axis)

    def zero_of(self, name: str) -> AnyArray:
        """What stands for 0 in a constant (broadcast to its shape)."""
        code, shape = self._codes.get(name), self.shape(name)
        if code is None or not code.zero:
            return np.broadcast_to(np.zeros(()), shape)
        zero = self.array(code.zero).astype(np.float64)
        return np.broadcast_to(spread(zero, code.axis, len(shape)), shape)

    def _view_axes(self, node: NodeView) -> tuple[int, ...]:
        """For each axis of the node's output the axis of its input, -1 for inserted ones."""
        shape = self.shape(node.inputs[0])
        rank = len(shape)
        if node.op_type == "Transpose":
            return tuple(node.attr("perm") or range(rank)[::-1])
        if node.op_type == "Unsqueeze":
            given = self._axes_operand(node)
            total = rank + len(given)
            inserted = {axis % total for axis in given}
            rest = iter(range(rank))
            return tuple(-1 if axis in inserted else next(rest) for axis in range(total))
        if node.op_type == "Squeeze":
            given = self._axes_operand(node)
            gone = {a % rank for a in given} if given else {a for a in range(rank) if shape[a] == 1}
            return tuple(axis for axis in range(rank) if axis not in gone)
        return tuple(range(rank))

    def _axes_operand(self, node: NodeView) -> list[int]:
        if node.input(1):
            return [int(axis) for axis in self.array(node.inputs[1]).reshape(-1)]
        return list(node.attr("axes") or ())

    def array(self, name: str) -> AnyArray:
        """The constant's values (a fresh or read-only array; large ones are not cached)."""
        if name in self._tensors:
            return tensor_array(self._tensors[name], self._folder)
        node = self._derived[name]
        feeds = {operand: self.array(operand) for operand in node.inputs if operand}
        return evaluate(node, feeds, self._opsets)


def evaluate(node: NodeView, feeds: dict[str, AnyArray], opsets: dict[str, int]) -> AnyArray:
    """Runs one single-output node on known inputs with the reference implementation."""
    return evaluate_all(node, feeds, opsets)[0]


def evaluate_all(
    node: NodeView, feeds: dict[str, AnyArray], opsets: dict[str, int]
) -> list[AnyArray]:
    """Runs one node on known inputs and returns all its outputs."""
    versions = opsets or {"": onnx.defs.onnx_opset_version()}
    if node.op_type == "Identity":
        return [feeds[node.inputs[0]]]
    if is_quantiser(node) and (node.domain or versions.get("", 1) < _FIRST_REFERENCE_QUANTISER):
        return [(dequantise if node.op_type == "DequantizeLinear" else quantise)(node, feeds)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node.proto],
            "one",
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in feeds],
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in node.outputs if n],
        ),
        opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in versions.items()],
    )
    results = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(result) for result in results]


def tensor_array(tensor: onnx.TensorProto, folder: Path) -> AnyArray:
    """A tensor's values; external data is memory-mapped, not read."""
    if not is_external(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    entries = external_entries(tensor)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = int(np.prod(tuple(tensor.dims), dtype=np.int64))
    if byte_count(tensor) != count * dtype.itemsize:
        # packed 4-bit types, and types that numpy holds in a wider one
        return np.asarray(numpy_helper.to_array(tensor, str(folder)))
    if count == 0:
        return np.zeros(tuple(tensor.dims), dtype)
    mapped: AnyArray = np.memmap(
        folder / entries["location"],
        dtype=dtype,
        mode="r",
        offset=int(entries.get("offset", 0)),
        shape=tuple(tensor.dims),
    )
    return mapped


def _constant_tensor(node: NodeView) -> onnx.TensorProto | None:
    """The value of a Constant node as a tensor, or None for strings and sparse values."""
    if node.has_attr("value"):
        value = node.attr("value")
        if not isinstance(value, onnx.TensorProto):
            raise InternalError(f"{node.label}: attribute 'value' is no tensor")
        return value
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        if node.has_attr(name):
            return numpy_helper.from_array(np.array(node.attr(name), dtype))
    for name, dtype in (("value_floats", np.float32), ("value_ints", np.int64)):
        if node.has_attr(name):
            return numpy_helper.from_array(np.array(list(node.attr(name)), dtype))
    return None
