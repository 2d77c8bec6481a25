"""Cases of operators on integers: conversion nodes, and products with integer weights."""

from __future__ import annotations

import numpy as np
from net_builder import Net
from onnx import TensorProto
from ops.case import CHANNELS, MIXES, Case, Fragment, cast, other

from onnx_scsp.types import FreezeReason

MICROSOFT = "com.microsoft"


def code(n: Net, scale: float = 0.05, zero: int = 120) -> tuple[str, str]:
    """Scale and zero point of a whole tensor."""
    return n.const(scale), n.const(zero, dtype=np.uint8)


def codes(n: Net, count: int) -> tuple[str, str]:
    """One scale and zero point for each channel."""
    return n.const(n.rng.uniform(0.03, 0.07, count)), n.const(
        n.rng.integers(100, 140, count), dtype=np.uint8
    )


def weight(n: Net, *shape: int) -> str:
    return n.const(n.rng.integers(60, 200, shape), dtype=np.uint8)


def quantise(n: Net, x: str, domain: str = "") -> tuple[str, str, str]:
    pair = code(n)
    return str(n.op("QuantizeLinear", x, *pair, domain=domain)), *pair


def dequantise(n: Net, y: str, pair: tuple[str, str] | None = None, domain: str = "") -> str:
    return str(n.op("DequantizeLinear", y, *(pair or code(n)), domain=domain))


def there_and_back(domain: str = "") -> Fragment:
    return lambda n, x: dequantise(n, quantise(n, x, domain)[0], domain=domain)


def per_channel(n: Net, x: str) -> str:
    pair = codes(n, CHANNELS)
    return str(n.op("DequantizeLinear", n.op("QuantizeLinear", x, *pair, axis=1), *pair, axis=1))


def dynamic(n: Net, x: str) -> str:
    y, scale, zero = n.op("DynamicQuantizeLinear", x, outputs=3)
    return dequantise(n, y, (scale, zero))


def stored_weight(n: Net, x: str) -> str:
    """A chain of two convolutions, weights and bias behind DequantizeLinear."""
    for _ in range(2):
        pair = codes(n, CHANNELS)
        w = n.op("DequantizeLinear", weight(n, CHANNELS, CHANNELS, 3, 3), *pair, axis=0)
        numbers = n.const(n.rng.integers(-900, 900, CHANNELS), dtype=np.int32)
        b = n.op("DequantizeLinear", numbers, n.const(np.full(CHANNELS, 1e-3)), axis=0)
        x = n.op("Conv", x, w, b, pads=[1] * 4)
    return x


def blocked_weight(n: Net, x: str) -> str:
    """A weight with one scale for three input channels."""
    scale = n.const(n.rng.uniform(0.03, 0.07, (CHANNELS, 4, 1, 1)))
    zero = n.const(np.full((CHANNELS, 4, 1, 1), 128), dtype=np.uint8)
    stored = weight(n, CHANNELS, CHANNELS, 1, 1)
    w = n.op("DequantizeLinear", stored, scale, zero, axis=1, block_size=3)
    return str(n.op("Conv", x, w))


def qconv(groups: int = 1, vector: bool = True) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        pair = codes(n, CHANNELS) if vector else code(n)
        if vector:  # the runtime wants one zero point for all filters of an unsigned weight
            pair = pair[0], n.const(np.full(CHANNELS, 128), dtype=np.uint8)
        bias = n.const(n.rng.integers(-99, 99, CHANNELS), dtype=np.int32)
        w = weight(n, CHANNELS, CHANNELS // groups, 3, 3)
        y = n.op(
            "QLinearConv", *quantise(n, x), w, *pair, *code(n, 0.3), bias,
            pads=[1] * 4, group=groups,
        )  # fmt: skip
        return dequantise(n, y, code(n, 0.3))

    return fragment


def qconv_last(groups: int = 1) -> Fragment:
    """What the runtime makes of QLinearConv: channels on the last axis, the weight as it was."""

    def fragment(n: Net, x: str) -> str:
        y, *pair = quantise(n, rows(n, x))
        w = weight(n, CHANNELS, CHANNELS // groups, 3, 3)
        bias = n.const(n.rng.integers(-99, 99, CHANNELS), dtype=np.int32)
        y = n.op(
            "QLinearConv", y, *pair, w, *code(n), *code(n, 0.3), bias,
            pads=[1] * 4, group=groups, channels_last=1, domain=MICROSOFT,
        )  # fmt: skip
        return image_of(n, dequantise(n, y, code(n, 0.3)))

    return fragment


def qpool_last(n: Net, x: str) -> str:
    y, *pair = quantise(n, rows(n, x))
    y = n.op("NhwcMaxPool", y, kernel_shape=[3, 3], pads=[1] * 4, domain=MICROSOFT)
    return image_of(n, dequantise(n, y, tuple(pair)))


def qpool_misplaced(n: Net, x: str) -> str:
    """Its windows slide over the channels."""
    y, *pair = quantise(n, x)
    y = n.op("NhwcMaxPool", y, kernel_shape=[3, 3], pads=[1] * 4, domain=MICROSOFT)
    return dequantise(n, y, tuple(pair))


def qwhere(n: Net, x: str) -> str:
    """Picks from an activation and a stored vector, by the sign of another activation."""
    condition = n.op("Greater", other(n), n.const(0.0))
    stored = n.const(n.rng.integers(60, 200, (CHANNELS, 1, 1)), dtype=np.uint8)
    operands = (*quantise(n, x), stored, *code(n))
    y = n.op("QLinearWhere", condition, *operands, *code(n, 0.1), domain=MICROSOFT)
    return dequantise(n, y, code(n, 0.1))


def conv_integer(n: Net, x: str) -> str:
    y, _, zero = quantise(n, x)
    y = n.op("ConvInteger", y, weight(n, CHANNELS, CHANNELS, 3, 3), zero,
             n.const(128, dtype=np.uint8), pads=[1] * 4)  # fmt: skip
    return str(n.op("Mul", cast(n, y, TensorProto.FLOAT), n.const(1e-3)))


def rows(n: Net, x: str) -> str:
    return str(n.op("Transpose", x, perm=[0, 2, 3, 1]))


def image_of(n: Net, x: str) -> str:
    return str(n.op("Transpose", x, perm=[0, 3, 1, 2]))


def qmatmul(n: Net, x: str) -> str:
    w = weight(n, CHANNELS, CHANNELS)
    y = n.op("QLinearMatMul", *quantise(n, rows(n, x)), w, *code(n), *code(n, 0.3))
    return image_of(n, dequantise(n, y, code(n, 0.3)))


def matmul_integer(n: Net, x: str) -> str:
    y, _, zero = quantise(n, rows(n, x))
    zeros = n.const(n.rng.integers(100, 140, CHANNELS), dtype=np.uint8)
    y = n.op("MatMulInteger", y, weight(n, CHANNELS, CHANNELS), zero, zeros)
    return image_of(n, n.op("Mul", cast(n, y, TensorProto.FLOAT), n.const(1e-3)))


def qgemm(n: Net, x: str) -> str:
    flat = n.op("Flatten", n.op("GlobalAveragePool", x))
    pair = (
        n.const(n.rng.uniform(0.03, 0.07, CHANNELS)),
        n.const(np.full(CHANNELS, 128), dtype=np.uint8),
    )
    bias = n.const(n.rng.integers(-99, 99, CHANNELS), dtype=np.int32)
    y = n.op("QGemm", *quantise(n, flat), weight(n, CHANNELS, CHANNELS), *pair, bias,
             *code(n), transB=1, domain=MICROSOFT)  # fmt: skip
    return str(n.op("Unsqueeze", dequantise(n, y), n.const([2, 3])))


def qunary(op_type: str, **attrs: float) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        y = n.op(op_type, *quantise(n, x), *code(n, 0.02), domain=MICROSOFT, **attrs)
        return dequantise(n, y, code(n, 0.02))

    return fragment


def qpair(op_type: str) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        operands = (*quantise(n, x), *quantise(n, other(n)))
        return dequantise(n, n.op(op_type, *operands, *code(n, 0.1), domain=MICROSOFT))

    return fragment


def qconcat(n: Net, x: str) -> str:
    parts = (*quantise(n, x), *quantise(n, other(n)))
    y = n.op("QLinearConcat", *code(n), *parts, axis=1, domain=MICROSOFT)
    n.channels[y] = 2 * CHANNELS
    y = dequantise(n, y)
    n.channels[y] = 2 * CHANNELS
    return n.conv(y, CHANNELS)


def qcase(op_type: str, fragment: Fragment, held: FreezeReason | None = None) -> Case:
    return Case(f"contrib-{op_type}", op_type, fragment, held, domain=MICROSOFT)


QUANTISED = [
    Case("QuantizeLinear", "QuantizeLinear", there_and_back()),
    Case("QuantizeLinear-channels", "QuantizeLinear", per_channel),
    Case("DequantizeLinear", "DequantizeLinear", there_and_back()),
    Case("DequantizeLinear-weights", "DequantizeLinear", stored_weight),
    Case("Conv-blocks", "Conv", blocked_weight, FreezeReason.COMPUTED_WEIGHT, 21),
    Case("DynamicQuantizeLinear", "DynamicQuantizeLinear", dynamic, MIXES),
    Case("QLinearConv", "QLinearConv", qconv()),
    Case("QLinearConv-tensor", "QLinearConv", qconv(vector=False)),
    Case("QLinearConv-depthwise", "QLinearConv", qconv(CHANNELS)),
    Case("ConvInteger", "ConvInteger", conv_integer),
    Case("QLinearMatMul", "QLinearMatMul", qmatmul),
    Case("MatMulInteger", "MatMulInteger", matmul_integer),
    qcase("QuantizeLinear", there_and_back(MICROSOFT)),
    qcase("DequantizeLinear", there_and_back(MICROSOFT)),
    qcase("QLinearConv", qconv_last()),
    Case("contrib-QLinearConv-groups", "QLinearConv", qconv_last(3), domain=MICROSOFT),
    Case("contrib-QLinearConv-depthwise", "QLinearConv", qconv_last(CHANNELS), domain=MICROSOFT),
    qcase("NhwcMaxPool", qpool_last),
    Case(
        "contrib-NhwcMaxPool-misplaced",
        "NhwcMaxPool",
        qpool_misplaced,
        FreezeReason.NOT_CHANNEL_AXIS,
        domain=MICROSOFT,
    ),
    qcase("QLinearWhere", qwhere),
    qcase("QGemm", qgemm),
    qcase("QLinearAdd", qpair("QLinearAdd")),
    qcase("QLinearMul", qpair("QLinearMul")),
    qcase("QLinearConcat", qconcat),
    qcase("QLinearLeakyRelu", qunary("QLinearLeakyRelu", alpha=0.2)),
    qcase("QLinearSigmoid", qunary("QLinearSigmoid")),
    qcase("QLinearSoftmax", qunary("QLinearSoftmax", axis=3, opset=13)),
    qcase("QLinearGlobalAveragePool", qunary("QLinearGlobalAveragePool", channels_last=0)),
    qcase("QLinearAveragePool", qunary("QLinearAveragePool", kernel_shape=[2, 2])),
]
