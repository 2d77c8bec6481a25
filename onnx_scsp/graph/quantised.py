"""Integer tensors that stand for real numbers, and where a node says which.

    real = (stored - zero point) x scale

Scale and zero point are one number for the tensor, or one per entry of an axis. DequantizeLinear
spells them next to the tensor; so do the operators that multiply integers directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from onnx_scsp.graph.view import NodeView
from onnx_scsp.types import AnyArray

DOMAINS = frozenset({"", "com.microsoft"})


@dataclass(frozen=True, slots=True)
class Coding:
    """Which inputs of a node say what one of its integer inputs stands for.

    Attributes:
        scales: Places of the factors; more than one are multiplied.
        zero: Place of the zero point, -1 where it is zero.
        axis: Axis of the integer input with one entry of scale and zero point each, where those
            are vectors.
    """

    scales: tuple[int, ...]
    zero: int
    axis: int


@dataclass(frozen=True, slots=True)
class Code:
    """What a stored integer tensor stands for.

    Attributes:
        scales: Names of the factors.
        zero: Name of the zero point, '' where it is zero.
        axis: Axis of the stored tensor along which vectors lie.
    """

    scales: tuple[str, ...]
    zero: str
    axis: int


@dataclass(frozen=True, slots=True)
class Companion:
    """A vector of scales or zero points that has to be cut along with a tensor's axis.

    Attributes:
        use: `node:input` place that reads the vector.
        name: The vector.
        axis: Axis of the stored tensor that it goes along with.
    """

    use: str
    name: str
    axis: int


_CODINGS: Mapping[tuple[str, int], Coding] = MappingProxyType(
    {
        ("QLinearConv", 3): Coding((4,), 5, 0),
        ("QLinearConv", 8): Coding((1, 4), -1, 0),
        ("ConvInteger", 1): Coding((), 3, 0),
        ("QLinearMatMul", 0): Coding((1,), 2, -2),
        ("QLinearMatMul", 3): Coding((4,), 5, -1),
        ("MatMulInteger", 0): Coding((), 2, -2),
        ("MatMulInteger", 1): Coding((), 3, -1),
        ("QGemm", 6): Coding((1, 4), -1, -1),
        ("QLinearAdd", 0): Coding((1,), 2, 0),
        ("QLinearAdd", 3): Coding((4,), 5, 0),
        ("QLinearMul", 0): Coding((1,), 2, 0),
        ("QLinearMul", 3): Coding((4,), 5, 0),
        ("QLinearWhere", 1): Coding((2,), 3, 0),
        ("QLinearWhere", 4): Coding((5,), 6, 0),
    }
)
"""(Operator, input place) -> coding, where attributes do not matter."""


def is_quantiser(node: NodeView) -> bool:
    """Whether the node turns real numbers into integers or back."""
    return node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in DOMAINS


def coding(node: NodeView, place: int) -> Coding | None:
    """How input `place` of a node is coded; None where the node does not say."""
    if node.domain not in DOMAINS:
        return None
    if is_quantiser(node) and place == 0:
        return Coding((1,), 2, int(node.attr("axis", 1)))
    if node.op_type == "QGemm" and place == 3:
        return Coding((4,), 5, 0 if node.attr("transB", 0) else 1)
    return _CODINGS.get((node.op_type, place))


def spread(vector: AnyArray, axis: int, rank: int) -> AnyArray:
    """Scale or zero point in a shape that broadcasts against its tensor."""
    if vector.size == 1:
        return vector.reshape(())
    view = [1] * rank
    view[axis] = vector.size
    return vector.reshape(view)


def real_values(stored: AnyArray, zero: AnyArray, scales: list[AnyArray], axis: int) -> AnyArray:
    """What the integers stand for, in double precision."""
    real = stored.astype(np.float64) - spread(zero.astype(np.float64), axis, stored.ndim)
    for scale in scales:
        real = real * spread(scale.astype(np.float64), axis, stored.ndim)
    return np.asarray(real)


def dequantise(node: NodeView, feeds: Mapping[str, AnyArray]) -> AnyArray:
    """DequantizeLinear, for operator sets that ONNX's reference implementation does not know."""
    stored, scale = (feeds[name] for name in node.inputs[:2])
    axis = int(node.attr("axis", 1))
    zero = feeds[node.inputs[2]] if node.input(2) else np.zeros(1, stored.dtype)
    shifted = stored.astype(np.int64) - spread(zero.astype(np.int64), axis, stored.ndim)
    return np.asarray(shifted.astype(scale.dtype) * spread(scale, axis, stored.ndim))


def quantise(node: NodeView, feeds: Mapping[str, AnyArray]) -> AnyArray:
    """QuantizeLinear on integers of 8 and 16 bits: halves go to the even neighbour."""
    x, scale = (feeds[name] for name in node.inputs[:2])
    axis = int(node.attr("axis", 1))
    zero = feeds[node.inputs[2]] if node.input(2) else np.zeros(1, np.uint8)
    bounds = np.iinfo(zero.dtype)
    steps = np.rint(x / spread(scale, axis, x.ndim))
    shifted = steps + spread(zero.astype(np.float64), axis, x.ndim)
    return np.asarray(np.clip(shifted, bounds.min, bounds.max).astype(zero.dtype))
