"""Conditions that are the same whatever the inputs are. They are proved, never sampled.

Sizes count as known only where ONNX's own shape inference derives them from the declared inputs,
and a condition only where every entry that goes into it is a constant or such a size.

The inference runs on a skeleton of the model: the values of small constants, the shapes of the
others, and no recorded shapes, which a file may state too narrowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from onnx_scsp.graph.constants import FOLDABLE, Constants, evaluate
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.routes import Route, Routes
from onnx_scsp.graph.view import GraphView, NodeView
from onnx_scsp.types import AnyArray, BoolArray

_SMALL = 1 << 10
"""Elements up to which a constant's values take part."""

_PLAIN = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
        onnx.TensorProto.BOOL,
    }
)
"""Element types of the numbers that sizes and conditions are made of."""

_FIRST_AXES_INPUT = 13
"""Operator set from which Squeeze and Unsqueeze take their axes as an input."""

_FIRST_OVERRIDE = 4
"""IR version from which an initializer that is an input as well is a mere default."""

_GROWING = frozenset({"ConstantOfShape", "Expand", "Range", "Tile"})
_PICKING = frozenset({"Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose"})
"""Operators that put entries of their first input elsewhere, as their other inputs say."""

_Sizes = list[int | None]
"""Sizes of a value, None where they depend on an input."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """A small value: what is known of it, and which entries are open."""

    value: AnyArray
    is_open: BoolArray


class Settled:
    """What follows from the declared inputs alone.

    Args:
        model: The model.
        graph: Its view.
        constants: Its constants.
        routes: Where the outputs of Ifs come from, as far as that is known.
    """

    def __init__(
        self,
        model: Model,
        graph: GraphView,
        constants: Constants,
        routes: Routes,
    ) -> None:
        self._graph = graph
        self._constants = constants
        self._opset = model.opsets.get("", 1)
        self._opsets = model.opsets
        self._defaults = _defaults(model, graph, constants)
        self._sizes: dict[str, _Sizes] = {}
        skeleton = self._skeleton(model, routes)
        while True:
            inferred = _inferred(skeleton)
            self._sizes = {v.name: _sizes(v) for v in inferred if _has_shape(v)}
            spelled = [value for value in inferred if self._spell(value)]
            if not spelled:
                break
            skeleton.graph.value_info.extend(spelled)

    def condition(self, node: NodeView) -> bool | None:
        """Which branch an If always takes (True: then); None where that is open."""
        found = self._entries(node.input(0))
        if found is None or found.value.size != 1 or found.is_open.any():
            return None
        return bool(found.value.reshape(()))

    def _entries(self, name: str) -> _Entries | None:
        """Walks back to constants and sizes, and forth again."""
        cone, stack = {}, [name]
        while stack:
            node = self._graph.producers.get(stack.pop())
            if node is not None and node.index not in cone and self._is_walked(node):
                cone[node.index] = node
                stack.extend(node.inputs if node.op_type != "Shape" else ())
        known: dict[str, _Entries | None] = {}
        for index in sorted(cone):
            node = cone[index]
            operands = [known.get(n) or self._constant(n) for n in node.inputs if n]
            known[node.outputs[0]] = self._made(node, operands)
        return known.get(name) or self._constant(name)

    def _is_walked(self, node: NodeView) -> bool:
        is_known = node.op_type in FOLDABLE and node.op_type not in _GROWING
        is_constant = node.outputs[0] in self._constants
        return is_known and not is_constant and not node.domain and len(node.outputs) == 1

    def _constant(self, name: str) -> _Entries | None:
        constants = self._constants
        if name not in constants or name in self._defaults or constants.size(name) > _SMALL:
            return None
        return _closed(constants.array(name))

    def _made(self, node: NodeView, operands: Sequence[_Entries | None]) -> _Entries | None:
        """What a node makes of its operands; open entries are followed where it only moves them."""
        if node.op_type == "Shape":
            return self._shape(node)
        given = [operand for operand in operands if operand is not None]
        if not given or len(given) != len(operands):
            return None
        value = self._run(node, [operand.value for operand in given])
        if not any(operand.is_open.any() for operand in given):
            return _closed(value)
        if node.op_type in ("Identity", "Cast"):
            return _Entries(value, given[0].is_open)
        moved = len(given) if node.op_type == "Concat" else 1 if node.op_type in _PICKING else 0
        if not moved or any(operand.is_open.any() for operand in given[moved:]):
            return None
        masks = [operand.is_open.astype(np.int64) for operand in given[:moved]]
        mask = self._run(node, [*masks, *(operand.value for operand in given[moved:])])
        return _Entries(value, mask.astype(np.bool_))

    def _run(self, node: NodeView, values: Sequence[AnyArray]) -> AnyArray:
        names = [name for name in node.inputs if name]
        return evaluate(node, dict(zip(names, values, strict=True)), self._opsets)

    def _shape(self, node: NodeView) -> _Entries | None:
        sizes = self._sizes.get(node.inputs[0])
        if sizes is None:
            return None
        sizes = sizes[slice(node.attr("start", 0), node.attr("end"))]
        value = np.array([size or 0 for size in sizes], np.int64)
        return _Entries(value, np.array([size is None for size in sizes], np.bool_))

    def _spell(self, value: onnx.ValueInfoProto) -> bool:
        """Fills in what a Reshape's target says of its sizes, where the inference does not see it.

        (It follows values through Unsqueeze from operator set 13 on alone.)
        """
        node = self._graph.producers.get(value.name)
        if node is None or node.op_type != "Reshape" or node.domain or _has_shape(value):
            return False
        target = self._entries(node.input(1))
        if target is None or target.value.ndim != 1 or not target.value.size:
            return False
        for size, is_open in zip(target.value.tolist(), target.is_open.tolist(), strict=True):
            dim = value.type.tensor_type.shape.dim.add()
            if size > 0 and not is_open:
                dim.dim_value = size
        return True

    def _skeleton(self, model: Model, routes: Routes) -> onnx.ModelProto:
        bare = onnx.GraphProto(name="skeleton")
        stored = {tensor.name for tensor in model.proto.graph.initializer}
        for value in model.proto.graph.input:
            if value.name not in stored:
                bare.input.append(_open_sizes(value))
        for name in sorted(stored):
            self._add_constant(bare, name)
        for node in self._graph.nodes:
            out = node.outputs[0] if node.outputs else ""
            if node.index in routes:
                for route, made in zip(routes[node.index], node.outputs, strict=True):
                    self._write_out(bare, route, made)
            elif self._is_folded(out):
                self._add_constant(bare, out)
            else:
                bare.node.append(node.proto)
        skeleton = onnx.ModelProto(ir_version=model.proto.ir_version, graph=bare)
        skeleton.opset_import.extend(model.proto.opset_import)
        return skeleton

    def _is_folded(self, name: str) -> bool:
        if name not in self._constants:
            return False
        return self._is_valued(name) or not self._constants.is_derived(name)

    def _is_valued(self, name: str) -> bool:
        """Whether a constant's values take part: small, of a plain type, and fixed."""
        constants = self._constants
        if name in self._defaults or constants.size(name) > _SMALL:
            return False
        if constants.is_derived(name):
            return int(helper.np_dtype_to_tensor_dtype(constants.array(name).dtype)) in _PLAIN
        return constants.elem_type(name) in _PLAIN

    def _add_constant(self, bare: onnx.GraphProto, name: str) -> None:
        """Small constants with their values, others with their shape."""
        constants = self._constants
        if self._is_valued(name):
            array = np.asarray(constants.array(name), order="C")
            bare.initializer.append(numpy_helper.from_array(array, name))
        else:
            kind, shape = constants.elem_type(name), constants.shape(name)
            bare.input.append(helper.make_tensor_value_info(name, kind, shape))

    def _write_out(self, bare: onnx.GraphProto, route: Route, out: str) -> None:
        x = route.source
        for place, move in enumerate(route.moves):
            operands, attributes = [x], {}
            if move.op_type == "Transpose":
                attributes["perm"] = move.axes
            elif move.op_type != "Identity" and self._opset < _FIRST_AXES_INPUT:
                attributes["axes"] = move.axes
            elif move.op_type != "Identity":
                operands.append(f"{out}__axes{place}")
                tensor = numpy_helper.from_array(np.array(move.axes, np.int64), operands[-1])
                bare.initializer.append(tensor)
            x = f"{out}__step{place}"
            bare.node.append(helper.make_node(move.op_type, operands, [x], **attributes))
        bare.node.append(helper.make_node("Identity", [x], [out]))


def _closed(value: AnyArray) -> _Entries:
    return _Entries(value, np.zeros(value.shape, np.bool_))


def _defaults(model: Model, graph: GraphView, constants: Constants) -> frozenset[str]:
    """Initializers that a caller may override, and what is computed from them."""
    if model.proto.ir_version < _FIRST_OVERRIDE:
        return frozenset()
    found = {value.name for value in model.proto.graph.input}
    for node in graph.nodes:
        if found & set(node.inputs):
            found |= {name for name in node.outputs if name in constants}
    return frozenset(found)


def _open_sizes(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """A declared input; sizes that are no sizes (0, -1) are open."""
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    for dim in copy.type.tensor_type.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value <= 0:
            dim.Clear()
    return copy


def _inferred(skeleton: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Every value as shape inference declares it."""
    try:
        inferred = shape_inference.infer_shapes(skeleton, data_prop=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError):
        return []  # nothing is known, so nothing is settled
    return [*inferred.graph.input, *inferred.graph.value_info]


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _sizes(value: onnx.ValueInfoProto) -> _Sizes:
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    ]
