"""Concrete shapes and small known values of every activation.

Dynamic axes get stand-in sizes. Each node's output shape comes from ONNX's own shape inference, fed
with the values of shape arithmetic, which is evaluated as far as it is known (Shape of a tensor of
known shape is known). Walking twice, with two sets of stand-ins, tells which values depend on a
dynamic axis: those that differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TypeProto, helper, numpy_helper, shape_inference

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.constants import FOLDABLE, Constants, evaluate_all
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.routes import Routes
from onnx_scsp.graph.view import GraphView, NodeView
from onnx_scsp.types import AnyArray

_VALUE_LIMIT = 1 << 14
"""Values with more elements than this are activations, not shape arithmetic."""

_SPATIAL_STAND_INS = (224, 256)
_OTHER_STAND_INS = (16, 24)
_BATCH_STAND_INS = (1, 2)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input with every axis filled in.

    Attributes:
        name: Input name.
        elem_type: ONNX element type.
        shape: Concrete shape.
        dynamic: For each axis whether the file leaves it open.
    """

    name: str
    elem_type: int
    shape: tuple[int, ...]
    dynamic: tuple[bool, ...]


def input_specs(
    model: Model,
    graph: GraphView,
    constants: Constants,
    overrides: Mapping[str, tuple[int, ...]] | None = None,
    variant: int = 0,
) -> tuple[InputSpec, ...]:
    """Concrete shapes for the graph's inputs.

    Args:
        model: The model.
        graph: Its view.
        constants: Its constants, for the channel count of a Conv that reads an input.
        overrides: Input name -> shape, from the caller.
        variant: 0 or 1, which of the two sets of stand-ins.

    Returns:
        One record per input, in file order.

    Raises:
        ConfigError: An override names no input or contradicts the file.
    """
    overrides = dict(overrides or {})
    by_name = {value.name: value for value in model.proto.graph.input}
    unknown = sorted(set(overrides) - set(graph.inputs))
    if unknown:
        raise ConfigError(
            f"--input-shape names '{unknown[0]}', but the model's inputs are "
            f"{', '.join(graph.inputs)}"
        )
    symbols: dict[str, int] = {}
    specs = []
    for name in graph.inputs:
        kind = by_name[name].type.tensor_type
        dims = list(kind.shape.dim) if kind.HasField("shape") else []
        dynamic = tuple(dim.dim_value <= 0 for dim in dims)
        shape = tuple(
            dim.dim_value
            if dim.dim_value > 0
            else _stand_in(dim, axis, len(dims), symbols, variant)
            for axis, dim in enumerate(dims)
        )
        shape = _fit_channels(name, shape, dynamic, graph, constants)
        if name in overrides:
            shape = _override(name, shape, dynamic, overrides[name], variant)
        specs.append(InputSpec(name, kind.elem_type, shape, dynamic))
    return tuple(specs)


def _stand_in(
    dim: onnx.TensorShapeProto.Dimension,
    axis: int,
    rank: int,
    symbols: dict[str, int],
    variant: int,
) -> int:
    if axis == 0:
        size = _BATCH_STAND_INS[variant]
    else:
        size = (_SPATIAL_STAND_INS if rank >= 3 else _OTHER_STAND_INS)[variant]
    return symbols.setdefault(dim.dim_param, size) if dim.dim_param.strip("?") else size


def _fit_channels(
    name: str,
    shape: tuple[int, ...],
    dynamic: tuple[bool, ...],
    graph: GraphView,
    constants: Constants,
) -> tuple[int, ...]:
    """An input whose channel axis is open takes the channel count of the Conv that reads it."""
    if len(shape) < 3 or not dynamic[1]:
        return shape
    for node in graph.consumers.get(name, ()):
        if node.op_type == "Conv" and node.input(0) == name and node.input(1) in constants:
            channels = constants.shape(node.inputs[1])[1] * int(node.attr("group", 1))
            return (shape[0], channels, *shape[2:])
    return shape


def _override(
    name: str,
    shape: tuple[int, ...],
    dynamic: tuple[bool, ...],
    given: tuple[int, ...],
    variant: int,
) -> tuple[int, ...]:
    if len(given) != len(shape):
        raise ConfigError(
            f"--input-shape {name}: {len(given)} axes given, the model has {len(shape)}"
        )
    for axis, (size, wanted) in enumerate(zip(shape, given, strict=True)):
        if wanted < 1 or (not dynamic[axis] and size != wanted):
            raise ConfigError(
                f"--input-shape {name}: axis {axis} is {wanted}, the model fixes it at {size}"
            )
    if variant and dynamic and dynamic[0]:
        return (given[0] + 1, *given[1:])
    return given


class Walker:
    """Shapes and known values, grown node by node in file order.

    Attributes:
        shapes: Value name -> concrete shape.
        types: Value name -> ONNX element type.
        values: Value name -> its value, for shape arithmetic.
    """

    def __init__(
        self,
        model: Model,
        constants: Constants,
        specs: Iterable[InputSpec],
        routes: Routes = MappingProxyType({}),
    ) -> None:
        self._routes = routes
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, int] = {}
        self.values: dict[str, AnyArray] = {}
        self._opsets = model.opsets
        self._imports = [helper.make_opsetid(d, v) for d, v in self._opsets.items()]
        self._ir_version = model.proto.ir_version
        self._declared = {
            value.name: value
            for value in (*model.proto.graph.value_info, *model.proto.graph.output)
        }
        for spec in specs:
            self.shapes[spec.name] = spec.shape
            self.types[spec.name] = spec.elem_type
        for name in constants.names():
            if constants.is_initializer(name) or not constants.is_derived(name):
                self.learn_constant(constants, name)
        self._given = frozenset(self.shapes)

    def learn_constant(self, constants: Constants, name: str) -> None:
        """Takes over a stored constant's shape, type and, where it is small, value."""
        self.shapes[name] = constants.shape(name)
        if constants.size(name) <= _VALUE_LIMIT:
            value = constants.array(name)
            self.values[name] = value
            self.types[name] = int(helper.np_dtype_to_tensor_dtype(value.dtype))
        else:
            self.types[name] = constants.elem_type(name)

    def learn_value(self, name: str, value: AnyArray) -> None:
        """Replaces a constant by a new value."""
        self.values.pop(name, None)
        self._learn(name, value)

    def restart(self) -> Walker:
        """A walker that knows the inputs and constants of this one, and nothing else yet."""
        fresh = copy(self)
        fresh.shapes = {name: self.shapes[name] for name in self._given}
        fresh.types = {name: self.types[name] for name in self._given}
        fresh.values = {name: self.values[name] for name in self._given if name in self.values}
        return fresh

    def advance(self, node: NodeView) -> None:
        """Adds what is known of the node's outputs; unknown ones stay absent."""
        if node.op_type == "Constant" and not node.domain:
            return
        if self._evaluate(node) or self._follow(node):
            return
        for name, inferred in self._infer(node).items():
            shape = _concrete(inferred)
            if shape is not None:
                self.shapes[name] = shape
                self.types[name] = inferred.tensor_type.elem_type
        for name in node.outputs:
            if name and name not in self.shapes and name in self._declared:
                shape = _concrete(self._declared[name].type)
                if shape is not None:
                    self.shapes[name] = shape
                    self.types[name] = self._declared[name].type.tensor_type.elem_type

    def observe(self, name: str, shape: tuple[int, ...], elem_type: int) -> None:
        """Records a shape that was seen at run time."""
        self.shapes.setdefault(name, shape)
        self.types.setdefault(name, elem_type)

    def _evaluate(self, node: NodeView) -> bool:
        if node.domain or node.op_type not in FOLDABLE:
            return False
        if node.op_type == "Shape" and node.inputs[0] in self.shapes:
            shape = self.shapes[node.inputs[0]]
            bounds = slice(node.attr("start", 0), node.attr("end"))
            self._learn(node.outputs[0], np.array(shape[bounds], np.int64))
            return True
        if node.op_type == "Size" and node.inputs[0] in self.shapes:
            size = np.prod(self.shapes[node.inputs[0]], dtype=np.int64)
            self._learn(node.outputs[0], np.array(size, np.int64))
            return True
        if not all(name in self.values for name in node.inputs if name) or not self._is_small(node):
            return False
        feeds = {name: self.values[name] for name in node.inputs if name}
        results = evaluate_all(node, feeds, self._opsets)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                self._learn(name, value)
        return True

    def _follow(self, node: NodeView) -> bool:
        """What an If makes that always takes one branch."""
        routes = self._routes.get(node.index, ())
        for route, name in zip(routes, node.outputs, strict=False):
            shape = route.shape(self.shapes[route.source]) if route.source in self.shapes else None
            if shape is not None:
                self.shapes[name] = shape
                self.types[name] = self.types[route.source]
        return bool(routes)

    def _is_small(self, node: NodeView) -> bool:
        """Guards evaluation against operators that could blow a value up."""
        if node.op_type in ("ConstantOfShape", "Expand", "Tile"):
            sizes = [int(size) for size in self.values[node.inputs[-1]].reshape(-1)]
            base = self.values[node.inputs[0]].size if node.op_type == "Tile" else 1
            return bool(base * float(np.prod([float(s) for s in sizes])) <= _VALUE_LIMIT)
        if node.op_type == "Range":
            start, limit, delta = (float(self.values[name]) for name in node.inputs)
            return delta != 0 and abs((limit - start) / delta) <= _VALUE_LIMIT
        return True

    def _learn(self, name: str, value: AnyArray) -> None:
        self.shapes[name] = tuple(value.shape)
        self.types[name] = int(helper.np_dtype_to_tensor_dtype(value.dtype))
        if value.size <= _VALUE_LIMIT:
            self.values[name] = value

    def _infer(self, node: NodeView) -> dict[str, TypeProto]:
        operands = [name for name in node.inputs if name]
        if node.captured or any(name not in self.shapes for name in operands):
            return {}
        try:
            schema = onnx.defs.get_schema(
                node.op_type, self._opsets.get(node.domain, 1), node.domain
            )
            return dict(
                shape_inference.infer_node_outputs(
                    schema,
                    node.proto,
                    {
                        n: helper.make_tensor_type_proto(self.types[n], self.shapes[n])
                        for n in operands
                    },
                    {
                        n: numpy_helper.from_array(self.values[n], n)
                        for n in operands
                        if n in self.values
                    },
                    opset_imports=self._imports,
                    ir_version=self._ir_version,
                )
            )
        except (
            onnx.defs.SchemaError,
            onnx.checker.ValidationError,
            shape_inference.InferenceError,
        ):
            return {}  # no schema, or types and sizes that do not fit: the shape stays unknown


def spelled(specs: Iterable[InputSpec]) -> str:
    """Inputs as `--input-shape` takes them."""
    return ", ".join(f"{spec.name}:{','.join(map(str, spec.shape))}" for spec in specs)


def _concrete(kind: TypeProto) -> tuple[int, ...] | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if any(not dim.HasField("dim_value") or dim.dim_value < 0 for dim in dims):
        return None  # below 0: a window that is larger than what it slides over
    return tuple(dim.dim_value for dim in dims)
