"""Tiny ONNX networks: convolutional structures, one function each, all in one table.

`NETS` holds networks that onnxruntime runs, `COUPLED_ONLY` those that it does not (an operator of
an unknown domain). `more_nets.py` has those about weights, shapes, normalisation, graph borders.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from more_nets import NETS as MORE_NETS
from more_nets import net, unknown_domain
from net_builder import Net, image

NETS: dict[str, Callable[[], onnx.ModelProto]] = MORE_NETS
COUPLED_ONLY: dict[str, Callable[[], onnx.ModelProto]] = {"unknown_domain": unknown_domain}


# ---- plain, residual --------------------------------------------------------------------------


@net
def plain_bn() -> onnx.ModelProto:
    n, x = image()
    return n.build(n.head(n.block(n.block(x, 8), 16)))


@net
def plain_folded() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.conv(n.relu(n.conv(x, 8)), 16))
    return n.build(n.head(x))


@net
def residual_identity() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 8)
    y = n.bn(n.conv(n.block(x, 12), 8))
    return n.build(n.head(n.relu(n.op("Add", x, y))))


@net
def residual_projection() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 8)
    y = n.bn(n.conv(n.block(x, 16, stride=2), 16))
    shortcut = n.bn(n.conv(x, 16, 1, stride=2))
    return n.build(n.head(n.relu(n.op("Add", y, shortcut))))


def _padded(opset: int, computed: bool) -> onnx.ModelProto:
    """CIFAR ResNet shortcut: every other row and column, channels padded on both sides."""
    n, x = image(opset)
    x = n.block(x, 8)
    y = n.bn(n.conv(n.block(x, 16, stride=2), 16))
    if opset < 11:
        short = n.op("AveragePool", x, kernel_shape=[1, 1], strides=[2, 2])
        short = n.op("Pad", short, pads=[0, 4, 0, 0, 0, 4, 0, 0])
    else:
        bounds = ([0, 0], [2**31 - 1] * 2, [2, 3], [2, 2])
        short = n.op("Slice", x, *(n.const(b) for b in bounds))
        if computed:
            index, axes = n.const(1, dtype=np.int64), n.const([0])
            have = n.op("Gather", n.op("Shape", short), index, axis=0)
            want = n.op("Gather", n.op("Shape", y), index, axis=0)
            half = n.op("Div", n.op("Sub", want, have), n.const(2))
            amount = n.op("Unsqueeze", half, axes) if opset >= 13 else half
            zero = n.const([0])
            pads = n.op("Concat", zero, amount, zero, zero, zero, amount, zero, zero, axis=0)
        else:
            pads = n.const([0, 4, 0, 0, 0, 4, 0, 0])
        short = n.op("Pad", short, pads)
    x = n.relu(n.op("Add", y, short))
    z = n.bn(n.conv(n.block(x, 8), 16))
    return n.build(n.head(n.relu(n.op("Add", x, z))), output_shape=["N", 5])


@net
def padded_shortcut_constant() -> onnx.ModelProto:
    return _padded(17, computed=False)


@net
def padded_shortcut_computed() -> onnx.ModelProto:
    return _padded(17, computed=True)


@net
def padded_shortcut_opset9() -> onnx.ModelProto:
    return _padded(9, computed=False)


@net
def padded_shortcut_opset21() -> onnx.ModelProto:
    return _padded(21, computed=True)


# ---- depthwise, grouped, gates ------------------------------------------------------------------


@net
def depthwise_separable() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.bn(n.depthwise(n.block(x, 8))))
    return n.build(n.head(n.block(x, 16, 1)))


@net
def depthwise_multiplier2() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.depthwise(n.relu(n.conv(x, 8)), multiplier=2))
    return n.build(n.head(n.relu(n.conv(x, 12, 1))))


@net
def grouped() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.bn(n.conv(n.block(x, 16), 32, groups=4)))
    return n.build(n.head(n.block(x, 12)))


@net
def squeeze_excite_conv() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 16)
    gate = n.relu(n.conv(n.op("GlobalAveragePool", x), 8, 1))
    x = n.op("Mul", x, n.op("Sigmoid", n.conv(gate, 16, 1)))
    return n.build(n.head(n.block(x, 8)))


@net
def squeeze_excite_gemm() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 16)
    flat = n.op("Flatten", n.op("GlobalAveragePool", x))
    gate = n.op("HardSigmoid", n.gemm(n.relu(n.gemm(flat, 16, 8)), 8, 16))
    gate = n.op("Unsqueeze", gate, n.const([2, 3]))
    return n.build(n.head(n.block(n.op("Mul", x, gate), 8)))


@net
def squeeze_excite_reshape() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 16)
    flat = n.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    gate = n.op("Sigmoid", n.gemm(flat, 16, 16))
    gate = n.op("Reshape", gate, n.const([-1, 16, 1, 1]))
    return n.build(n.head(n.block(n.op("Mul", x, gate), 8)))


@net
def spatial_attention() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 16)
    attention = n.op("Sigmoid", n.conv(n.relu(n.conv(x, 8)), 1))
    return n.build(n.head(n.block(n.op("Mul", x, attention), 8)))


# ---- joins and cuts -----------------------------------------------------------------------------


@net
def concat_branches() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 8)
    x = n.concat(n.block(x, 8, 1), n.block(x, 12), n.op("MaxPool", x, kernel_shape=[1, 1]))
    return n.build(n.head(n.block(x, 8)))


def _uneven(opset: int) -> onnx.ModelProto:
    """Split 24 = 8 + 16, then joined unevenly: some units occur twice."""
    n, x = image(opset)
    x = n.block(x, 24)
    a, b = n.split(x, [8, 16])
    c = n.concat(n.relu(n.conv(a, 8)), b, a)
    return n.build(n.head(n.block(c, 8)))


@net
def uneven_concat_split() -> onnx.ModelProto:
    return _uneven(17)


@net
def uneven_concat_split_opset9() -> onnx.ModelProto:
    return _uneven(9)


@net
def uneven_concat_split_opset11() -> onnx.ModelProto:
    return _uneven(11)


@net
def uneven_concat_split_opset13() -> onnx.ModelProto:
    return _uneven(13)


@net
def split_num_outputs_opset18() -> onnx.ModelProto:
    n, x = image(18)
    a, b = n.op("Split", n.block(x, 16), outputs=2, axis=1, num_outputs=2, channels=8)
    y = n.concat(n.block(a, 8), b)
    return n.build(n.head(n.block(y, 8)))


@net
def slice_channels() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 16)
    a, b = n.slice(x, [0], [6], [1]), n.slice(x, [6], [2**62], [1])
    y = n.op("Concat", b, a, axis=1, channels=16)
    return n.build(n.head(n.block(n.op("Add", y, n.conv(y, 16)), 8)))


@net
def slice_channels_opset9() -> onnx.ModelProto:
    n, x = image(9)
    x = n.block(x, 16)
    part = n.slice(x, [4], [16], [1])
    n.channels[part] = 12
    return n.build(n.head(n.concat(n.relu(n.conv(part, 8)), part)))


@net
def dense_block() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 8)
    for _ in range(3):
        y = n.conv(n.relu(n.bn(x)), 8, 1, bias=False)
        x = n.concat(x, n.conv(n.relu(n.bn(y)), 4, bias=False))
    return n.build(n.head(n.relu(n.bn(x))))


@net
def channel_shuffle() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 16)
    x = n.relu(n.conv(x, 16, 1, groups=2))
    x = n.op("Reshape", x, n.const([-1, 2, 8, 8, 8]), channels=2)
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.const([-1, 16, 8, 8]), channels=16)
    x = n.conv(n.relu(n.depthwise(x)), 16, 1, groups=2)
    return n.build(n.head(n.relu(x)))


# ---- heads --------------------------------------------------------------------------------------


@net
def flatten_gemm() -> onnx.ModelProto:
    n, x = image()
    flat = n.op("Flatten", n.block(n.block(x, 8), 6, stride=2), axis=1)
    return n.build(n.gemm(n.relu(n.gemm(flat, 6 * 16, 12)), 12, 5))


@net
def gemm_stack() -> onnx.ModelProto:
    n = Net()
    x = n.input("N", 10)
    x = n.relu(n.gemm(x, 10, 16, trans_b=1))
    x = n.op("Tanh", n.gemm(x, 16, 12, trans_b=0))
    return n.build(n.gemm(x, 12, 4, trans_b=0))


@net
def matmul_add_head() -> onnx.ModelProto:
    """As Paddle exports it: Reshape, MatMul, Add, twice."""
    n, x = image()
    x = n.op("Reshape", n.op("GlobalAveragePool", n.block(x, 12)), n.const([0, -1]))
    x = n.op("Add", n.op("MatMul", x, n.random(12, 16, fan_in=12)), n.random(16))
    x = n.op("Add", n.op("MatMul", n.relu(x), n.random(16, 5, fan_in=16)), n.random(5))
    return n.build(n.op("Softmax", x, axis=1))


@net
def matmul_over_positions() -> onnx.ModelProto:
    """A recogniser's head: channels to the last axis, then a weight on that axis."""
    n, x = image()
    x = n.op("Reshape", n.block(x, 12), n.const([0, 12, -1]))
    x = n.op("MatMul", n.op("Transpose", x, perm=[0, 2, 1]), n.random(12, 16, fan_in=12))
    x = n.op("MatMul", n.relu(n.op("Add", x, n.random(16))), n.random(16, 5, fan_in=16))
    return n.build(x)


@net
def conv_head_reduce() -> onnx.ModelProto:
    n, x = image()
    x = n.conv(n.block(x, 12), 5, 1)
    return n.build(n.op("ReduceMean", x, axes=[2, 3], keepdims=0))


# ---- transposed, one and three dimensions --------------------------------------------------------


@net
def conv_transpose() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 12)
    w = n.random(12, 8, 2, 2, fan_in=48)
    x = n.relu(n.op("ConvTranspose", x, w, n.random(8), strides=[2, 2], channels=8))
    return n.build(n.conv(x, 2))


@net
def conv_transpose_grouped() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 12)
    w = n.random(12, 4, 2, 2, fan_in=24)
    x = n.op("ConvTranspose", x, w, n.random(8), strides=[2, 2], group=2, channels=8)
    return n.build(n.conv(n.relu(x), 2))


@net
def conv_transpose_depthwise() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 12)
    w = n.random(12, 1, 2, 2)
    x = n.op("ConvTranspose", x, w, n.random(12), strides=[2, 2], group=12)
    return n.build(n.conv(n.relu(x), 2))


@net
def conv1d() -> onnx.ModelProto:
    n = Net()
    x = n.input("N", 4, 16)
    x = n.relu(n.bn(n.conv(x, 8, dims=1)))
    return n.build(n.head(n.relu(n.conv(x, 12, dims=1))))


@net
def conv3d() -> onnx.ModelProto:
    n = Net()
    x = n.input("N", 2, 4, 4, 4)
    x = n.relu(n.bn(n.conv(x, 8, dims=3)))
    return n.build(n.head(n.relu(n.conv(x, 8, dims=3))))


# ---- activations, elementwise --------------------------------------------------------------------


@net
def prelu_clip_hardswish() -> onnx.ModelProto:
    n, x = image()
    x = n.op("PRelu", n.conv(x, 8), n.random(8, 1, 1))
    x = n.op("Clip", n.bn(n.conv(x, 12)), n.const(0.0), n.const(6.0))
    y = n.conv(x, 8)
    inner = n.op("Clip", n.op("Add", y, n.const(3.0)), n.const(0.0), n.const(6.0))
    return n.build(n.head(n.op("Div", n.op("Mul", y, inner), n.const(6.0))))


@net
def per_channel_constants() -> onnx.ModelProto:
    n, x = image()
    x = n.op("Mul", n.block(x, 8), n.random(1, 8, 1, 1))
    x = n.op("Add", x, n.random(8, 1, 1))
    x = n.op("Sub", n.random(1, 8, 1, 1), x)
    return n.build(n.head(n.block(x, 8)))
