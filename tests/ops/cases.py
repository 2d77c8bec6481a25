"""One case per operator: what stands between two convolutions, and what becomes of its channels.

The first convolution makes 12 channels, which the fragment receives as `x`; what it returns is read
by a second one. `held` says why the 12 channels stay, None that they may go.
"""

from __future__ import annotations

from typing import Any

from net_builder import Net
from onnx import TensorProto
from ops.attention_cases import ATTENTION
from ops.branch_cases import BRANCHES
from ops.case import CHANNELS, MIXES, Case, Fragment, bounded, cast, other, positive
from ops.contrib_cases import CONTRIB
from ops.more_cases import MORE
from ops.quantised_cases import QUANTISED

# ---- elementwise --------------------------------------------------------------------------------


def unary(op_type: str, before: Any = None, opset: int = 17, **attrs: Any) -> Case:
    def fragment(n: Net, x: str) -> str:
        return str(n.op(op_type, before(n, x) if before else x, **attrs))

    return Case(op_type, op_type, fragment, opset=opset)


def through(op_type: str, to: int, opset: int = 17, **attrs: Any) -> Case:
    """An operator on another type: Cast there and back."""

    def fragment(n: Net, x: str) -> str:
        return cast(n, n.op(op_type, cast(n, x, to), **attrs))

    return Case(op_type, op_type, fragment, opset=opset)


def to_float(op_type: str) -> Case:
    return Case(op_type, op_type, lambda n, x: cast(n, n.op(op_type, x)))


def pair(op_type: str, to: int | None = None, opset: int = 17, **attrs: Any) -> Case:
    """Two activations; `to` is the operand type where it is not float."""

    def fragment(n: Net, x: str) -> str:
        operands = [x, other(n)]
        if to is not None:
            operands = [cast(n, value, to) for value in operands]
        return cast(n, n.op(op_type, *operands, **attrs))

    return Case(f"{op_type}-pair", op_type, fragment, opset=opset)


def scaled(op_type: str, before: Any = None, **attrs: Any) -> Case:
    """A constant with one entry per channel."""

    def fragment(n: Net, x: str) -> str:
        return str(
            n.op(op_type, before(n, x) if before else x, n.positive(1, CHANNELS, 1, 1), **attrs)
        )

    return Case(f"{op_type}-constant", op_type, fragment)


def shifted(n: Net, x: str) -> str:
    whole = cast(n, n.op("Abs", x), TensorProto.UINT32)
    places = n.const(n.rng.integers(0, 3, (CHANNELS, 1, 1)), dtype="uint32")
    return cast(n, n.op("BitShift", whole, places, direction="LEFT"))


def where(n: Net, x: str) -> str:
    return str(n.op("Where", n.op("Greater", x, n.const(0.0)), x, other(n)))


ELEMENTWISE = [
    *map(unary, ["Relu", "Neg", "Abs", "Identity", "Dropout"]),
    unary("LeakyRelu", alpha=0.2),
    unary("Cast", to=TensorProto.FLOAT),
    *map(unary, "Asinh Atan Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish".split()),
    *map(unary, "Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Tanh".split()),
    unary("Shrink", lambd=0.3),
    unary("ThresholdedRelu", alpha=0.3),
    unary("Acos", bounded),
    unary("Asin", bounded),
    unary("Atanh", bounded),
    unary("Tan", bounded),
    unary("Acosh", positive),
    unary("Log", positive),
    unary("Reciprocal", positive),
    unary("Sqrt", positive),
    unary("Mish", opset=18),
    unary("Gelu", opset=20),
    unary("Swish", opset=24),
    Case("Clip", "Clip", lambda n, x: n.op("Clip", x, n.const(-0.5), n.const(0.5))),
    to_float("IsInf"),
    to_float("IsNaN"),
    through("Not", TensorProto.BOOL),
    through("BitwiseNot", TensorProto.INT32, opset=18),
    *(pair(op_type) for op_type in ("Add", "Sub", "Sum", "Max", "Min", "Mean", "Mul")),
    *(scaled(op_type) for op_type in ("Add", "Sub", "Sum", "Max", "Min", "Mean", "Mul", "Div")),
    *(pair(op, TensorProto.BOOL) for op in ("And", "Or", "Xor")),
    *(pair(op) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    pair("Equal", TensorProto.INT32),
    *(pair(f"Bitwise{op}", TensorProto.INT32, opset=18) for op in ("And", "Or", "Xor")),
    Case("BitShift", "BitShift", shifted),
    Case("Div-pair", "Div", lambda n, x: n.op("Div", x, positive(n, other(n)))),
    scaled("Mod", fmod=1),
    scaled("Pow", positive),
    Case("PRelu", "PRelu", lambda n, x: n.op("PRelu", x, n.random(CHANNELS, 1, 1))),
    Case("Where", "Where", where),
]

# ---- normalisation ------------------------------------------------------------------------------


def layer_norm(op_type: str, over_channels: bool, opset: int) -> Case:
    def fragment(n: Net, x: str) -> str:
        size = CHANNELS if over_channels else 8
        operands = [n.positive(size)]
        if op_type == "LayerNormalization":
            operands.append(n.random(size))
        if over_channels:
            x = n.op("Transpose", x, perm=[0, 2, 3, 1])
        x = n.op(op_type, x, *operands, axis=-1)
        return str(n.op("Transpose", x, perm=[0, 3, 1, 2]) if over_channels else x)

    name = f"{op_type}-over-{'channels' if over_channels else 'positions'}"
    return Case(name, op_type, fragment, MIXES if over_channels else None, opset)


def group_norm(n: Net, x: str) -> str:
    operands = n.positive(CHANNELS), n.random(CHANNELS)
    return str(n.op("GroupNormalization", x, *operands, num_groups=4))


def group_norm_exported(n: Net, x: str) -> str:
    """Groups as channels of an InstanceNormalization, as exporters spell it."""
    x = n.op("Reshape", x, n.const([0, 4, -1]))
    x = n.op("InstanceNormalization", x, n.positive(4), n.random(4))
    x = n.op("Reshape", x, n.const([0, CHANNELS, 8, 8]))
    x = n.op("Mul", x, n.positive(CHANNELS, 1, 1))
    return str(n.op("Add", x, n.random(CHANNELS, 1, 1)))


def instance_norm(n: Net, x: str) -> str:
    return str(n.op("InstanceNormalization", x, n.positive(CHANNELS), n.random(CHANNELS)))


NORMALISATION = [
    Case("BatchNormalization", "BatchNormalization", Net.bn),
    Case("InstanceNormalization", "InstanceNormalization", instance_norm),
    Case("GroupNormalization", "GroupNormalization", group_norm, opset=21),
    Case("InstanceNormalization-groups", "InstanceNormalization", group_norm_exported),
    Case("LRN", "LRN", lambda n, x: n.op("LRN", x, size=3), MIXES),
    Case("MeanVarianceNormalization-over-channels", "MeanVarianceNormalization",
         lambda n, x: n.op("MeanVarianceNormalization", x, axes=[1]), MIXES),
    Case("LpNormalization-over-channels", "LpNormalization",
         lambda n, x: n.op("LpNormalization", x, axis=1)),
    *(
        layer_norm(op_type, over_channels, opset)
        for op_type, opset in (("LayerNormalization", 17), ("RMSNormalization", 23))
        for over_channels in (True, False)
    ),
]  # fmt: skip

# ---- reductions ---------------------------------------------------------------------------------


def reduction(op_type: str, axes: list[int]) -> Case:
    def fragment(n: Net, x: str) -> str:
        y = n.op(op_type, positive(n, x), n.const(axes), keepdims=1)
        return str(n.op("Mul", y, n.positive(1, CHANNELS, 1, 1)) if 1 in axes else y)

    kind = "channels" if 1 in axes else "positions"
    held = MIXES if 1 in axes and op_type in ("ReduceProd", "ReduceLogSumExp") else None
    return Case(f"{op_type}-over-{kind}", op_type, fragment, held, 18)


def softmax(op_type: str, axis: int) -> Case:
    kind = "channels" if axis == 1 else "positions"
    held = MIXES if axis == 1 else None
    return Case(f"{op_type}-over-{kind}", op_type, lambda n, x: n.op(op_type, x, axis=axis), held)


def arg(op_type: str, axis: int) -> Case:
    def fragment(n: Net, x: str) -> str:
        y = cast(n, n.op(op_type, x, axis=axis, keepdims=1))
        return str(n.op("Mul", y, n.positive(1, CHANNELS, 1, 1)) if axis == 1 else y)

    kind = "channels" if axis == 1 else "positions"
    return Case(f"{op_type}-over-{kind}", op_type, fragment, MIXES if axis == 1 else None)


REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()

REDUCING = [
    *(reduction(f"Reduce{name}", [2, 3]) for name in REDUCTIONS),
    *(reduction(f"Reduce{name}", [1]) for name in REDUCTIONS),
    *(softmax(op, axis) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (3, 1)),
    *(arg(op, axis) for op in ("ArgMax", "ArgMin") for axis in (2, 1)),
]

# ---- layout, joins and cuts, pooling, products ---------------------------------------------------


def there_and_back(op_type: str) -> Fragment:
    """Transpose or Reshape to another layout, and back."""

    def fragment(n: Net, x: str) -> str:
        if op_type == "Transpose":
            x = n.relu(n.op("Transpose", x, perm=[0, 2, 3, 1]))
            return str(n.op("Transpose", x, perm=[0, 3, 1, 2]))
        x = n.op("Reshape", x, n.const([0, CHANNELS, 64]))
        return str(n.op("Reshape", n.relu(x), n.const([0, CHANNELS, 8, 8])))

    return fragment


def flatten(n: Net, x: str) -> str:
    x = n.op("Flatten", x, axis=1)
    return str(n.op("Reshape", x, n.const([0, CHANNELS, 8, 8])))


def squeeze(n: Net, x: str) -> str:
    x = n.op("Squeeze", n.op("GlobalAveragePool", x), n.const([2, 3]))
    return str(n.op("Unsqueeze", x, n.const([2, 3])))


def expand(n: Net, x: str) -> str:
    x = n.op("GlobalAveragePool", x)
    return str(n.op("Expand", x, n.const([1, CHANNELS, 4, 4])))


def concat(n: Net, x: str) -> str:
    a, b = n.split(x, [4, 8])
    return str(n.op("Concat", n.relu(b), a, axis=1))


def gather(n: Net, x: str) -> str:
    return str(n.op("Gather", x, n.const(n.rng.permutation(CHANNELS)), axis=1))


def tile(n: Net, x: str) -> str:
    return str(n.op("Tile", x, n.const([1, 1, 2, 1])))


def tile_channels(n: Net, x: str) -> str:
    part = n.op("Tile", x, n.const([1, 2, 1, 1]))
    return n.slice(part, [0], [CHANNELS], [1])


def slice_order(n: Net, x: str) -> str:
    return str(n.op("Concat", n.slice(x, [6], [12], [1]), n.slice(x, [0], [6], [1]), axis=1))


def pad(n: Net, x: str) -> str:
    pads = n.const([0, 3, 0, 0, 0, 1, 0, 0])
    return n.conv(n.op("Pad", x, pads, channels=CHANNELS + 4), CHANNELS)


def pool(op_type: str, opset: int = 17, **attrs: Any) -> Case:
    return Case(op_type, op_type, lambda n, x: n.op(op_type, x, **attrs), opset=opset)


def resize(n: Net, x: str) -> str:
    return str(n.op("Resize", x, "", n.const([1.0, 1.0, 2.0, 2.0]), mode="nearest"))


def upsample(n: Net, x: str) -> str:
    return str(n.op("Upsample", x, n.const([1.0, 1.0, 2.0, 2.0]), mode="nearest"))


def conv(n: Net, x: str) -> str:
    return n.conv(x, CHANNELS, groups=2)


def conv_transpose(n: Net, x: str) -> str:
    w = n.random(CHANNELS, CHANNELS, 2, 2, fan_in=48)
    return str(n.op("ConvTranspose", x, w, n.random(CHANNELS), strides=[2, 2]))


def gemm(n: Net, x: str) -> str:
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    x = n.gemm(n.relu(x), CHANNELS, CHANNELS, trans_b=0)
    return str(n.op("Unsqueeze", x, n.const([2, 3])))


def matmul(n: Net, x: str) -> str:
    x = n.op("Transpose", x, perm=[0, 2, 3, 1])
    x = n.op("MatMul", x, n.random(CHANNELS, CHANNELS, fan_in=CHANNELS))
    return str(n.op("Transpose", n.relu(x), perm=[0, 3, 1, 2]))


MOVING = [
    Case("Transpose", "Transpose", there_and_back("Transpose")),
    Case("Reshape", "Reshape", there_and_back("Reshape")),
    Case("Flatten", "Flatten", flatten),
    Case("Squeeze", "Squeeze", squeeze),
    Case("Unsqueeze", "Unsqueeze", squeeze),
    Case("Expand", "Expand", expand),
    Case("Tile-positions", "Tile", tile),
    Case("Tile-channels", "Tile", tile_channels),
    Case("Concat", "Concat", concat),
    Case("Split", "Split", concat),
    Case("Gather", "Gather", gather),
    Case("Slice", "Slice", slice_order),
    Case("Pad", "Pad", pad),
]


def pool_indices(n: Net, x: str) -> str:
    """The places that MaxPool found, as numbers."""
    found = n.op("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])[1]
    return str(n.op("Mul", cast(n, found), n.const(0.01)))


def over_channels(op_type: str, window: int, **attrs: Any) -> Fragment:
    """Channels lie on the first axis that windows of a third rank slide over."""

    def fragment(n: Net, x: str) -> str:
        deep = n.op("Unsqueeze", x, n.const([1]))
        pads = [window // 2, 0, 0] * 2
        y = n.op(op_type, deep, kernel_shape=[window, 2, 2], pads=pads, **attrs)
        return str(n.op("Squeeze", y, n.const([1])))

    return fragment


def there_and_back(n: Net, x: str) -> str:
    return str(n.op("DepthToSpace", n.op("SpaceToDepth", x, blocksize=2), blocksize=2))


def pixel_shuffle(mode: str) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        wide = n.conv(x, 4 * CHANNELS)
        n.channels[wide] = 4 * CHANNELS
        return str(n.op("DepthToSpace", wide, blocksize=2, mode=mode))

    return fragment


WINDOWS = [
    Case("MaxPool-indices", "MaxPool", pool_indices, MIXES),
    pool("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    pool("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    pool("LpPool", opset=18, kernel_shape=[2, 2]),
    Case("AveragePool-over-channels", "AveragePool", over_channels("AveragePool", 3), MIXES),
    Case("AveragePool-beside-channels", "AveragePool", over_channels("AveragePool", 1)),
    Case("MaxPool-over-channels", "MaxPool", over_channels("MaxPool", 3), MIXES),
    pool("GlobalAveragePool"),
    pool("GlobalMaxPool"),
    pool("GlobalLpPool"),
    Case("SpaceToDepth", "SpaceToDepth", there_and_back),
    Case("DepthToSpace-DCR", "DepthToSpace", pixel_shuffle("DCR")),
    Case("DepthToSpace-CRD", "DepthToSpace", pixel_shuffle("CRD")),
    Case("Resize", "Resize", resize),
    Case("Upsample", "Upsample", upsample, opset=9),
]

PRODUCTS = [
    Case("Conv", "Conv", conv),
    Case("ConvTranspose", "ConvTranspose", conv_transpose),
    Case("Gemm", "Gemm", gemm),
    Case("MatMul", "MatMul", matmul),
]

CASES = [
    *ELEMENTWISE,
    *NORMALISATION,
    *REDUCING,
    *MOVING,
    *WINDOWS,
    *PRODUCTS,
    *BRANCHES,
    *ATTENTION,
    *MORE,
    *CONTRIB,
    *QUANTISED,
]
