"""Cases of operators that sample, index, contract by letters, recur or pad by copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from net_builder import Net
from onnx import TensorProto
from ops.case import CHANNELS, MIXES, Case, Fragment, cast, other

from onnx_scsp.types import FreezeReason

PLACES = FreezeReason.BROADCAST
MICROSOFT = "com.microsoft"


def channels_last(n: Net, x: str) -> str:
    return str(n.op("Transpose", x, perm=[0, 2, 3, 1]))


def channels_first(n: Net, x: str) -> str:
    return str(n.op("Transpose", x, perm=[0, 3, 1, 2]))


def rows(n: Net, x: str) -> str:
    """(batch, positions, channels)."""
    x = n.op("Reshape", x, n.const([0, 0, -1]))
    return str(n.op("Transpose", x, perm=[0, 2, 1]))


def image_of(n: Net, x: str) -> str:
    """Back from (batch, positions, channels)."""
    x = n.op("Transpose", x, perm=[0, 2, 1])
    return str(n.op("Reshape", x, n.const([0, 0, 8, 8])))


# ---- sampling -----------------------------------------------------------------------------------


def grid_sample(domain: str = "") -> Fragment:
    """Samples where a convolution says."""

    def fragment(n: Net, x: str) -> str:
        grid = channels_last(n, n.op("Tanh", n.conv("x", 2)))
        return str(n.op("GridSample", x, grid, align_corners=1, domain=domain))

    return fragment


def affine_grid(n: Net, x: str) -> str:
    """Where to sample follows from the channels."""
    theta = n.op("Flatten", n.op("GlobalAveragePool", x))
    theta = n.op("Reshape", theta, n.const([-1, 2, 3]))  # 12 channels are two samples' matrices
    size = n.op("Concat", n.op("Shape", theta, end=1), n.const([1, 8, 8]), axis=0)
    grid = n.op("AffineGrid", theta, size)
    grid = channels_first(n, n.op("Reshape", grid, n.const([-1, 8, 8, 4])))
    n.channels[grid] = 4
    return n.conv(grid, CHANNELS)


def regions(n: Net, x: str) -> str:
    """One region per sample, as many as the batch holds, back to the picture's size."""
    rois = n.op("Expand", n.const([[0.0, 0.0, 6.0, 6.0]]), batch_shape(n, x, 4))
    index = n.op("Expand", n.const([0]), n.op("Shape", x, end=1))
    return str(n.op("RoiAlign", x, rois, index, output_height=4, output_width=4))


def batch_shape(n: Net, x: str, last: int) -> str:
    return str(n.op("Concat", n.op("Shape", x, end=1), n.const([last]), axis=0))


def pooled_regions(n: Net, x: str) -> str:
    rois = n.op("Expand", n.const([[0.0, 0.0, 0.0, 6.0, 6.0]]), batch_shape(n, x, 5))
    return str(n.op("MaxRoiPool", x, rois, pooled_shape=[4, 4]))


def deform_conv(groups: int, offset_groups: int) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        w = n.random(CHANNELS, CHANNELS // groups, 3, 3, fan_in=9 * CHANNELS // groups)
        offset = n.conv("x", 18 * offset_groups)
        mask = n.op("Sigmoid", n.conv("x", 9 * offset_groups))
        operands = (x, w, offset, n.random(CHANNELS), mask)
        attrs = {"group": groups, "offset_group": offset_groups, "pads": [1, 1, 1, 1]}
        return str(n.op("DeformConv", *operands, **attrs))

    return fragment


def col2im(n: Net, x: str) -> str:
    wide = n.conv(x, 4 * CHANNELS)
    wide = n.op("Reshape", wide, n.const([0, 0, 64]))
    return str(n.op("Col2Im", wide, n.const([9, 9]), n.const([2, 2])))


def max_unpool(n: Net, x: str) -> str:
    """Places found in one activation are filled from another."""
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    found = n.op("MaxPool", other(n), outputs=2, **window)[1]
    return str(
        n.op("MaxUnpool", n.op("MaxPool", x, **window), found, kernel_shape=[2, 2], strides=[2, 2])
    )


def crop_pad(sizes: list[int], **attrs: Any) -> Fragment:
    return lambda n, x: str(n.op("CenterCropPad", x, n.const(sizes), **attrs))


SAMPLING = [
    Case("GridSample", "GridSample", grid_sample(), opset=17),
    Case("GridSample-20", "GridSample", grid_sample(), opset=20),
    Case("GridSample-contrib", "GridSample", grid_sample(MICROSOFT), domain=MICROSOFT),
    Case("AffineGrid", "AffineGrid", affine_grid, PLACES, 20),
    Case("RoiAlign", "RoiAlign", regions),
    Case("MaxRoiPool", "MaxRoiPool", pooled_regions),
    Case("DeformConv-19", "DeformConv", deform_conv(1, 1), opset=19),
    Case("DeformConv-22", "DeformConv", deform_conv(1, 2), opset=22),
    Case("DeformConv-grouped", "DeformConv", deform_conv(2, 1), opset=19),
    Case("DeformConv-depthwise", "DeformConv", deform_conv(CHANNELS, 1), opset=19),
    Case("Col2Im", "Col2Im", col2im, opset=18),
    Case("MaxUnpool", "MaxUnpool", max_unpool, MIXES),
    Case("CenterCropPad-positions", "CenterCropPad", crop_pad([6, 10], axes=[2, 3]), opset=18),
    Case("CenterCropPad-sizes", "CenterCropPad", crop_pad([CHANNELS, 6], axes=[1, 2]), opset=18),
]

# ---- indexing -----------------------------------------------------------------------------------


def top_k(axis: int) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        values, places = n.op("TopK", x, n.const([6 if axis != 1 else 12]), outputs=2, axis=axis)
        return str(n.op("Add", values, n.op("Mul", cast(n, places), n.const(0.1))))

    return fragment


def cum_sum(axis: int) -> Fragment:
    return lambda n, x: str(n.op("CumSum", x, n.const(axis)))


def reverse_sequence(n: Net, x: str) -> str:
    """Positions in reverse."""
    lengths = n.op("Expand", n.const([5]), n.op("Shape", x, end=1))
    rows_first = n.op("Transpose", x, perm=[2, 0, 1, 3])
    turned = n.op("ReverseSequence", rows_first, lengths, batch_axis=1, time_axis=0)
    return str(n.op("Transpose", turned, perm=[1, 2, 0, 3]))


def reverse_channels(n: Net, x: str) -> str:
    lengths = n.op("Expand", n.const([5]), n.op("Shape", x, end=1))
    return str(n.op("ReverseSequence", x, lengths, batch_axis=0, time_axis=1))


def trilu(domain: str = "", over_channels: bool = False) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        x = channels_last(n, x) if over_channels else x
        x = n.op("Trilu", x, upper=1, domain=domain)
        return channels_first(n, x) if over_channels else str(x)

    return fragment


def one_hot(n: Net, x: str) -> str:
    """How often each of four values stands in a row of positions."""
    places = cast(n, n.op("Clip", n.op("Abs", x), n.const(0.0), n.const(3.0)), TensorProto.INT64)
    hot = n.op("OneHot", places, n.const(4), n.const([0.0, 1.0]), axis=-1)
    return str(n.op("ReduceSum", hot, n.const([3]), keepdims=0))


def gather_elements(kind: str) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        if kind == "computed":
            places = n.op("ArgMax", other(n), axis=3, keepdims=1)
        else:
            x = n.op("ReduceMean", x, axes=[0], keepdims=1)
            most = CHANNELS if kind == "channels" else 8
            places = n.const(n.rng.integers(0, most, (1, CHANNELS, 8, 8)))
        found = n.op("GatherElements", x, places, axis=1 if kind == "channels" else 3)
        return str(n.op("Add", found, n.op("GlobalAveragePool", n.conv("x", 1))))

    return fragment


def scatter_elements(op_type: str) -> Fragment:
    """The largest entry of each row is replaced."""

    def fragment(n: Net, x: str) -> str:
        places = n.op("ArgMax", x, axis=3, keepdims=1)
        updates = n.op("ReduceMean", other(n), axes=[3], keepdims=1)
        return str(n.op(op_type, x, places, updates, axis=3))

    return fragment


def gather_nd(domain: str) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        last = n.op("Transpose", x, perm=[2, 3, 0, 1])
        places = n.const(n.rng.integers(0, 8, (4, 4, 2)))
        found = n.op("GatherND", last, places, domain=domain)
        return str(n.op("Transpose", found, perm=[2, 3, 0, 1]))

    return fragment


def scatter_nd(n: Net, x: str) -> str:
    last = n.op("Transpose", x, perm=[2, 3, 0, 1])
    updates = n.op("ReduceMax", n.op("Transpose", other(n), perm=[2, 3, 0, 1]), axes=[0])
    placed = n.op("ScatterND", last, n.const(np.arange(8)[::-1].reshape(8, 1)), n.op(
        "Expand", updates, n.op("Shape", last)
    ))  # fmt: skip
    return str(n.op("Transpose", placed, perm=[2, 3, 0, 1]))


def scatter_nd_constant(n: Net, x: str) -> str:
    """A constant row per channel."""
    pooled = n.op("Transpose", n.op("ReduceMean", x, axes=[0], keepdims=1), perm=[2, 3, 0, 1])
    updates = n.random(3, 8, 1, CHANNELS)
    placed = n.op("ScatterND", pooled, n.const([[0], [4], [2]]), updates)
    return str(n.op("Add", x, n.op("Transpose", placed, perm=[2, 3, 0, 1])))


def suppression(n: Net, x: str) -> str:
    """Scores of one class, boxes from two channels: how many are selected scales everything."""
    scores = n.op("Reshape", x, n.const([0, CHANNELS, 64]))
    boxes = n.op("Reshape", n.conv("x", 4), n.const([0, 64, 4]))
    found = n.op("NonMaxSuppression", boxes, scores, n.const([3]), n.const([0.5]))
    return counted(n, x, found)


def counted(n: Net, x: str, found: str) -> str:
    total = n.op("ReduceMean", cast(n, found), keepdims=0)
    return str(n.op("Mul", n.conv("x", CHANNELS), n.op("Add", total, n.const(1.0))))


INDEXING = [
    Case("TopK-positions", "TopK", top_k(3)),
    Case("TopK-channels", "TopK", top_k(1), MIXES),
    Case("CumSum-positions", "CumSum", cum_sum(2)),
    Case("CumSum-channels", "CumSum", cum_sum(1), MIXES),
    Case("ReverseSequence-positions", "ReverseSequence", reverse_sequence),
    Case("ReverseSequence-channels", "ReverseSequence", reverse_channels, MIXES),
    Case("Trilu", "Trilu", trilu()),
    Case("Trilu-channels", "Trilu", trilu(over_channels=True), MIXES),
    Case("Trilu-contrib", "Trilu", trilu(MICROSOFT), domain=MICROSOFT),
    Case("OneHot", "OneHot", one_hot),
    Case("GatherElements", "GatherElements", gather_elements("computed")),
    Case("GatherElements-constant", "GatherElements", gather_elements("constant")),
    Case("GatherElements-channels", "GatherElements", gather_elements("channels"), MIXES),
    Case("ScatterElements", "ScatterElements", scatter_elements("ScatterElements")),
    Case("Scatter", "Scatter", scatter_elements("Scatter"), opset=9),
    Case("GatherND", "GatherND", gather_nd("")),
    Case("GatherND-contrib", "GatherND", gather_nd(MICROSOFT), domain=MICROSOFT),
    Case("ScatterND", "ScatterND", scatter_nd),
    Case("ScatterND-constant", "ScatterND", scatter_nd_constant),
    Case("NonMaxSuppression", "NonMaxSuppression", suppression, MIXES),
    Case("NonZero", "NonZero", lambda n, x: counted(n, x, n.op("NonZero", x)), MIXES),
    Case("Unique", "Unique", lambda n, x: counted(n, x, n.op("Unique", x)), MIXES),
    Case("CastLike", "CastLike", lambda n, x: n.op("CastLike", x, "x")),
]

# ---- products by letters, recurrence ------------------------------------------------------------


def einsum(equation: str, *shape: int, first: bool = False) -> Fragment:
    """The picture and a weight."""

    def fragment(n: Net, x: str) -> str:
        w = n.random(*shape, fan_in=CHANNELS)
        return str(n.op("Einsum", *((w, x) if first else (x, w)), equation=equation))

    return fragment


def einsum_pair(equation: str) -> Fragment:
    """Two pictures."""

    def fragment(n: Net, x: str) -> str:
        return str(n.op("Einsum", x, n.op("Sigmoid", other(n)), equation=equation))

    return fragment


def einsum_contracts(n: Net, x: str) -> str:
    """A similarity of positions over all channels."""
    seen = einsum_pair("nchw,nchv->nhwv")(n, x)
    n.channels[seen] = 8
    return n.conv(seen, CHANNELS)


def einsum_map(n: Net, x: str) -> str:
    """A map over positions that all channels share."""
    seen = n.op("Softmax", n.op("Squeeze", n.conv("x", 1), n.const([1])))
    return str(n.op("Einsum", x, seen, equation="nchw,nwv->nchv"))


def einsum_heads(n: Net, x: str) -> str:
    """Channels as 3 heads of 4, read together, made as 2 heads of 6."""
    heads = n.op("Reshape", rows(n, x), n.const([0, 64, 3, 4]))
    made = n.op("Einsum", heads, n.random(3, 4, 2, 6, fan_in=12), equation="bthd,hdge->btge")
    return image_of(n, n.op("Reshape", made, n.const([0, 64, CHANNELS])))


def recurrent(op_type: str, gates: int, layout: int = 0) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        steps = rows(n, x)
        if not layout:
            steps = n.op("Transpose", steps, perm=[1, 0, 2])
        w = n.random(1, gates * CHANNELS, CHANNELS, fan_in=CHANNELS)
        r = n.random(1, gates * CHANNELS, CHANNELS, fan_in=CHANNELS)
        operands = (steps, w, r, n.random(1, 2 * gates * CHANNELS))
        y = n.op(op_type, *operands, hidden_size=CHANNELS, **({"layout": 1} if layout else {}))
        y = n.op("Squeeze", y, n.const([2 if layout else 1]))
        return image_of(n, y if layout else n.op("Transpose", y, perm=[1, 0, 2]))

    return fragment


PRODUCTS = [
    Case("Einsum-conv", "Einsum", einsum("nchw,oc->nohw", CHANNELS, CHANNELS)),
    Case("Einsum-first", "Einsum", einsum("co,nchw->nohw", CHANNELS, CHANNELS, first=True)),
    Case("Einsum-implicit", "Einsum", einsum("acyz,bc", CHANNELS, CHANNELS)),
    Case("Einsum-scale", "Einsum", einsum("nchw,c->nchw", CHANNELS)),
    Case("Einsum-positions", "Einsum", einsum("nchw,wv->nchv", 8, 8)),
    Case("Einsum-weighs", "Einsum", einsum("nchw,cwv->nchv", CHANNELS, 8, 8)),
    Case("Einsum-pair", "Einsum", einsum_pair("nchw,nchw->nchw")),
    Case("Einsum-outer", "Einsum", einsum_pair("nchw,nkhw->nckh"), MIXES),
    Case("Einsum-contracts", "Einsum", einsum_contracts),
    Case("Einsum-map", "Einsum", einsum_map),
    Case("Einsum-heads", "Einsum", einsum_heads),
    Case("LSTM", "LSTM", recurrent("LSTM", 4)),
    Case("GRU", "GRU", recurrent("GRU", 3)),
    Case("RNN", "RNN", recurrent("RNN", 1)),
]

# ---- padding by copies, cropping ----------------------------------------------------------------


def padded(before: int, after: int, mode: str) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        pads = n.const([0, before, 0, 0, 0, after, 0, 0])
        wide = n.op("Pad", x, pads, mode=mode, channels=CHANNELS + before + after)
        return n.conv(wide, CHANNELS)

    return fragment


PADDING = [
    Case("Pad-wrap", "Pad", padded(4, 4, "wrap"), opset=19),
    Case("Pad-crop", "Pad", padded(-2, -2, "constant")),
    Case("Pad-crop-and-pad", "Pad", padded(-4, 2, "constant")),
]

MORE = [*SAMPLING, *INDEXING, *PRODUCTS, *PADDING]
