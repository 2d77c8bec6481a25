"""A builder of tiny ONNX networks: seeded weights, opset and IR version spelled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_IR_OF_OPSET = {9: 4, 11: 6, 13: 7, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 11}


class Net:
    """Collects nodes and weights; remembers each value's channel count (axis 1)."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.channels: dict[str, int] = {}
        self.domains: dict[str, int] = {}

    def input(self, *shape: int | str, name: str = "x") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.channels[name] = shape[1] if len(shape) > 1 else 0
        return name

    def const(self, value: Any, name: str = "", dtype: Any = None) -> str:
        array = np.asarray(value)
        if dtype is None:
            dtype = np.float32 if array.dtype.kind == "f" else np.int64
        name = name or f"c{len(self.weights)}"
        self.weights[name] = array.astype(dtype)
        return name

    def random(self, *shape: int, fan_in: int | None = None, name: str = "") -> str:
        scale = 1.0 if fan_in is None else 1.5 / np.sqrt(fan_in)
        return self.const(self.rng.standard_normal(shape) * scale, name)

    def positive(self, *shape: int) -> str:
        return self.const(self.rng.uniform(0.5, 1.5, shape))

    def op(
        self,
        op_type: str,
        *inputs: str,
        outputs: int = 1,
        channels: int | None = None,
        **attrs: Any,
    ) -> Any:
        index = len(self.nodes)
        names = [f"{op_type.lower()}{index}" + (f"_{i}" if i else "") for i in range(outputs)]
        name = f"{op_type}{index}"
        if attrs.get("domain"):
            self.domains[attrs["domain"]] = 1
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=name, **attrs))
        known = [self.channels[value] for value in inputs if value in self.channels]
        for output in names:
            self.channels[output] = channels if channels is not None else (known or [0])[0]
        return names[0] if outputs == 1 else names

    def conv(
        self,
        x: str,
        out: int,
        k: int = 3,
        *,
        dims: int = 2,
        groups: int = 1,
        bias: bool = True,
        stride: int = 1,
    ) -> str:
        fan_in = self.channels[x] // groups
        operands = [self.random(out, fan_in, *[k] * dims, fan_in=fan_in * k**dims)]
        if bias:
            operands.append(self.random(out))
        pads = [k // 2] * (2 * dims)
        return self.op(
            "Conv", x, *operands, channels=out, pads=pads, group=groups, strides=[stride] * dims
        )

    def depthwise(self, x: str, multiplier: int = 1) -> str:
        channels = self.channels[x]
        return self.conv(x, channels * multiplier, groups=channels)

    def bn(self, x: str) -> str:
        n = self.channels[x]
        operands = (self.positive(n), self.random(n), self.random(n), self.positive(n))
        return self.op("BatchNormalization", x, *operands)

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def block(self, x: str, out: int, k: int = 3, stride: int = 1) -> str:
        return self.relu(self.bn(self.conv(x, out, k, stride=stride, bias=False)))

    def concat(self, *parts: str, axis: int = 1) -> str:
        total = sum(self.channels[part] for part in parts)
        return self.op("Concat", *parts, axis=axis, channels=total)

    def gemm(self, x: str, fan_in: int, out: int, trans_b: int = 1) -> str:
        shape = (out, fan_in) if trans_b else (fan_in, out)
        weight = self.random(*shape, fan_in=fan_in)
        return self.op("Gemm", x, weight, self.random(out), transB=trans_b, channels=out)

    def head(self, x: str, classes: int = 5) -> str:
        pooled = self.op("GlobalAveragePool", x)
        return self.gemm(self.op("Flatten", pooled, axis=1), self.channels[x], classes)

    def split(self, x: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
        if self.opset < 13:
            parts = self.op("Split", x, outputs=len(sizes), axis=axis, split=list(sizes))
        else:
            parts = self.op("Split", x, self.const(sizes), outputs=len(sizes), axis=axis)
        if axis == 1:
            self.channels.update(zip(parts, sizes, strict=True))
        return list(parts)

    def slice(self, x: str, starts: list[int], ends: list[int], axes: list[int]) -> str:
        if self.opset < 10:
            return str(self.op("Slice", x, starts=starts, ends=ends, axes=axes))
        return str(self.op("Slice", x, self.const(starts), self.const(ends), self.const(axes)))

    def build(self, *outputs: str, output_shape: Sequence[Any] | None = None) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            self.inputs,
            [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_OF_OPSET[self.opset], producer_name="tests"
        )
        if output_shape is not None:
            for value in model.graph.output:
                kind = helper.make_tensor_type_proto(TensorProto.FLOAT, output_shape)
                value.type.CopyFrom(kind)
            return model
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        for value, known in zip(model.graph.output, inferred.graph.output, strict=True):
            value.CopyFrom(known)
        return model


def image(opset: int = 17, seed: int = 0, size: int = 8) -> tuple[Net, str]:
    """A network with one image input, dynamic batch."""
    n = Net(opset, seed)
    return n, n.input("N", 3, size, size)
