"""Small networks in which one width varies, for timing what that width costs.

Every probe starts with a 1 x 1 convolution of 64 channels, so that the runtime is in the layout
that it prefers for convolutions when the width comes; what width makes it leave that layout shows
in the time. What a kind's width belongs to:

    dense       64 -[3x3]-> w -[3x3]-> 64
    pointwise   64 -[1x1]-> w -[1x1]-> 64
    depthwise   64 -[1x1]-> w -[3x3, a filter per channel]-> w -[1x1]-> 64
    grouped     64 -[1x1]-> 8 w -[3x3, 8 groups]-> 8 w -[1x1]-> 64
    joined      64 -[1x1]-> w, joined with 64 more channels, 64 + w -[1x1]-> 64
    matmul      64 -[MatMul]-> w -[MatMul]-> 64, on 784 rows

with a ReLU behind every layer but the last. Width 0 is the network without those layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper

FAN = 64
GROUPS = 8
_OPSET, _IR = 13, 7
_ROWS = 784
_SIDE = MappingProxyType(
    {"dense": 14, "pointwise": 28, "depthwise": 28, "grouped": 14, "joined": 28}
)
"""Height and width of the images: about the same time for every kind."""


@dataclass(slots=True)
class _Net:
    """A network under construction."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        """Adds a node with one output; returns its name."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Adds a random constant; returns its name."""
        name = f"w{len(self.weights)}"
        scale = np.sqrt(2.0 / max(math.prod(shape[1:]), 1))
        values = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, fan: int, width: int, kernel: int = 1, groups: int = 1) -> str:
        """Convolution and ReLU."""
        weight = self.weight(width, fan // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        made = self.node("Conv", [x, weight, self.weight(width)], pads=pads, group=groups)
        return self.node("Relu", [made])

    def dense(self, x: str, w: int) -> str:
        """See the module."""
        return self.conv(self.conv(x, FAN, w, 3), w, FAN, 3) if w else x

    def pointwise(self, x: str, w: int) -> str:
        """See the module."""
        return self.conv(self.conv(x, FAN, w), w, FAN) if w else x

    def depthwise(self, x: str, w: int) -> str:
        """See the module."""
        return self.conv(self.conv(self.conv(x, FAN, w), w, w, 3, w), w, FAN) if w else x

    def grouped(self, x: str, w: int) -> str:
        """See the module."""
        all_ = GROUPS * w
        if not w:
            return x
        return self.conv(self.conv(self.conv(x, FAN, all_), all_, all_, 3, GROUPS), all_, FAN)

    def joined(self, x: str, w: int) -> str:
        """See the module."""
        other = self.conv(x, FAN, FAN)
        if w:
            other = self.node("Concat", [self.conv(x, FAN, w), other], axis=1)
        return self.conv(other, FAN + w, FAN)

    def matmul(self, x: str, w: int) -> str:
        """See the module."""
        if not w:
            return x
        hidden = self.node("Relu", [self.node("MatMul", [x, self.weight(FAN, w)])])
        return self.node("MatMul", [hidden, self.weight(w, FAN)])


def input_shape(kind: str) -> tuple[int, ...]:
    """Shape of a probe's input `x`."""
    return (1, _ROWS, FAN) if kind == "matmul" else (1, FAN, _SIDE[kind], _SIDE[kind])


def probe(kind: str, width: int) -> bytes:
    """A serialised probe.

    Args:
        kind: Kind of layer.
        width: The width, 0 for the network without it.

    Returns:
        The model.
    """
    net = _Net(np.random.default_rng(0))
    if kind == "matmul":
        x = net.node("MatMul", ["x", net.weight(FAN, FAN)])
    else:
        x = net.conv("x", FAN, FAN)
    build: Mapping[str, object] = {
        "dense": net.dense,
        "pointwise": net.pointwise,
        "depthwise": net.depthwise,
        "grouped": net.grouped,
        "joined": net.joined,
        "matmul": net.matmul,
    }
    x = build[kind](x, width)  # type: ignore[operator]
    shape = list(input_shape(kind))
    graph = helper.make_graph(
        net.nodes,
        f"{kind}_{width}",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, shape)],
        net.weights,
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR)
    return bytes(model.SerializeToString())
