"""Networks some of whose channels are copies of others, one for every kind of reader."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from net_builder import Net, image

from compensate.nets import double, second_halves

Planted = tuple[onnx.ModelProto, str, np.ndarray]
"""A network, an activation, and which of its channels the others can stand in for."""


def conv() -> Planted:
    n, x = image()
    y = n.conv(x, 8)
    double(n, y)
    return n.build(n.conv(n.relu(n.conv(n.relu(y), 6, stride=2)), 4)), y, second_halves(8)


def normed_producer() -> Planted:
    n, x = image()
    y = n.conv(x, 8, bias=False)
    z = n.bn(y)
    double(n, y, z)
    return n.build(n.conv(n.relu(z), 4)), y, second_halves(8)


def normed_reader() -> Planted:
    """The reader has no bias: the mean of the normalisation behind it is one."""
    n, x = image()
    y = n.conv(x, 8)
    double(n, y)
    return n.build(n.conv(n.block(n.relu(y), 6), 4)), y, second_halves(8)


def grouped() -> Planted:
    n, x = image()
    y = n.conv(x, 12)
    double(n, y, blocks=2)
    z = n.conv(n.relu(y), 8, groups=2)
    return n.build(n.conv(n.relu(z), 4)), y, second_halves(12, 2)


def depthwise_between() -> Planted:
    n, x = image()
    y = n.conv(x, 8)
    z = n.depthwise(n.relu(y))
    double(n, y, z)
    return n.build(n.conv(n.relu(z), 4, 1)), y, second_halves(8)


def conv_transpose() -> Planted:
    n, x = image()
    y = n.conv(x, 8)
    double(n, y)
    w = n.random(8, 6, 3, 3, fan_in=24)
    z = n.op("ConvTranspose", n.relu(y), w, n.random(6), channels=6, strides=[2, 2], pads=[1] * 4)
    return n.build(n.conv(n.relu(z), 4)), y, second_halves(8)


def conv_transpose_producer() -> Planted:
    n, x = image()
    w = n.random(3, 8, 2, 2, fan_in=3)
    y = n.op("ConvTranspose", x, w, n.random(8), channels=8, strides=[2, 2])
    double(n, y)
    return n.build(n.conv(n.relu(y), 4)), y, second_halves(8)


def pooled_gemm() -> Planted:
    n, x = image()
    y = n.conv(x, 8)
    double(n, y)
    return n.build(n.head(n.relu(y))), y, second_halves(8)


def flattened_gemm() -> Planted:
    n, x = image(size=4)
    y = n.conv(x, 8)
    double(n, y)
    return n.build(n.gemm(n.op("Flatten", n.relu(y)), 8 * 16, 5)), y, second_halves(8)


def gemm_stack() -> Planted:
    n = Net()
    y = n.gemm(n.input("N", 7), 7, 8)
    double(n, y)
    return n.build(n.gemm(n.relu(n.gemm(n.relu(y), 8, 6, 0)), 6, 5)), y, second_halves(8)


def matmul_and_add() -> Planted:
    n = Net()
    x = n.input("N", 7)
    y = n.op("MatMul", x, n.random(7, 8), channels=8)
    z = n.op("Add", n.random(8), y)
    double(n, y, z)
    out = n.op("Add", n.op("MatMul", n.relu(z), n.random(8, 5)), n.random(5))
    return n.build(out), y, second_halves(8)


def residual() -> Planted:
    """A spine of copies: the first layer and the branch both double their channels."""
    n, x = image()
    y = n.conv(x, 8)
    branch = n.conv(n.relu(n.conv(n.relu(y), 6)), 8)
    double(n, y, branch)
    spine = n.relu(n.op("Add", y, branch))
    return n.build(n.conv(spine, 4)), y, second_halves(8)


def concatenated() -> Planted:
    n, x = image()
    y, other = n.conv(x, 8), n.conv(x, 4)
    double(n, y)
    return n.build(n.conv(n.relu(n.concat(other, y)), 4)), y, second_halves(8)


def gated() -> Planted:
    n, x = image()
    y = n.conv(x, 8)
    pooled = n.op("GlobalAveragePool", n.relu(y))
    gate = n.conv(n.relu(n.conv(pooled, 4, 1)), 8, 1)
    double(n, y, gate)
    out = n.conv(n.op("Mul", n.relu(y), n.op("Sigmoid", gate)), 4)
    return n.build(out), y, second_halves(8)


def conv_1d() -> Planted:
    n = Net()
    y = n.conv(n.input("N", 3, 8), 8, dims=1)
    double(n, y)
    return n.build(n.conv(n.relu(y), 4, dims=1)), y, second_halves(8)


COPIES: dict[str, Callable[[], Planted]] = {
    build.__name__: build
    for build in (
        conv, normed_producer, normed_reader, grouped, depthwise_between, conv_transpose,
        conv_transpose_producer, pooled_gemm, flattened_gemm, gemm_stack, matmul_and_add, residual,
        concatenated, gated, conv_1d,
    )
}  # fmt: skip
