"""Cases of convolution, pooling, normalisation, matrix products, recurrence, resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrain.lift_case import Case, case, f32, i64, noise, positive

IMAGE = noise(2, 4, 9, 8)
SIGNAL = noise(2, 4, 11)
VOLUME = noise(1, 2, 5, 6, 4)
C4, C4P = noise(4, seed=3), positive(4)


def conv(x: np.ndarray, out: int, *kernel: int, bias: bool = True, op: str = "Conv", **options: Any
         ) -> Case:  # fmt: skip
    groups = options.get("group", 1)
    inner = x.shape[1] // groups if op == "Conv" else out // groups
    rows = out if op == "Conv" else x.shape[1]
    operands = [x, noise(rows, inner, *kernel, seed=4)] + ([noise(out, seed=5)] if bias else [])
    return case(op, *operands, stored=tuple(range(1, len(operands))), **options)


def transposed(x: np.ndarray, out: int, *kernel: int, **options: Any) -> Case:
    return conv(x, out, *kernel, op="ConvTranspose", **options)


CONVS: list[Case] = [
    conv(IMAGE, 6, 3, 3),
    conv(IMAGE, 6, 3, 3, bias=False, pads=[1, 1, 1, 1]),
    conv(IMAGE, 6, 3, 3, pads=[0, 1, 2, 3], strides=[2, 1]),
    conv(IMAGE, 6, 3, 2, dilations=[2, 3], pads=[2, 2, 2, 2]),
    conv(IMAGE, 4, 3, 3, group=4, pads=[1, 1, 1, 1]),
    conv(IMAGE, 8, 3, 3, group=2, strides=[2, 2]),
    *(
        conv(IMAGE, 6, 4, 3, auto_pad=mode, strides=[2, 3])
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    ),
    conv(IMAGE, 6, 3, 3, auto_pad="SAME_UPPER", opset=7),
    conv(SIGNAL, 6, 3, pads=[2, 1], strides=[2]),
    conv(VOLUME, 3, 2, 3, 2, pads=[1, 0, 1, 0, 1, 1]),
    case("Conv", IMAGE, noise(6, 4, 3, 3), noise(6)),
    transposed(IMAGE, 6, 3, 3),
    transposed(IMAGE, 6, 3, 3, bias=False, strides=[2, 2], pads=[1, 1, 1, 1]),
    transposed(IMAGE, 6, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    transposed(IMAGE, 6, 3, 3, strides=[2, 3], pads=[0, 1, 1, 0], output_padding=[1, 2]),
    transposed(IMAGE, 6, 4, 2, group=2, dilations=[2, 1]),
    transposed(IMAGE, 6, 3, 3, strides=[2, 2], output_shape=[18, 16]),
    transposed(IMAGE, 6, 3, 3, strides=[2, 2], output_shape=[18, 16], auto_pad="SAME_UPPER"),
    transposed(IMAGE, 6, 3, 3, strides=[2, 2], output_shape=[18, 16], auto_pad="SAME_LOWER"),
    transposed(IMAGE, 6, 3, 3, strides=[2, 2], auto_pad="SAME_UPPER"),
    transposed(IMAGE, 6, 3, 3, strides=[2, 2], auto_pad="SAME_LOWER"),
    transposed(SIGNAL, 6, 3, strides=[2]),
    transposed(VOLUME, 3, 2, 2, 2, strides=[2, 1, 1]),
]

POOLS: list[Case] = [
    *(
        case(op, IMAGE, kernel_shape=[3, 2], **attributes)
        for op in ("MaxPool", "AveragePool")
        for attributes in (
            {},
            {"strides": [2, 2]},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 3], "pads": [1, 0, 0, 1]},
            {"strides": [2, 3], "ceil_mode": 1},
            {"strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
            {"auto_pad": "VALID"},
        )
    ),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 3], strides=[1, 2]),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], outputs=2),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], outputs=2),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], outputs=2),
    case("MaxPool", SIGNAL, kernel_shape=[3], strides=[2]),
    case("MaxPool", VOLUME, kernel_shape=[2, 2, 2], outputs=2),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], opset=7),
    case("MaxPool", (IMAGE * 20).astype(np.int8), kernel_shape=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 2, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[3, 2], pads=[1, 0, 2, 1],
         count_include_pad=1, ceil_mode=1, opset=19),
    case("AveragePool", IMAGE, kernel_shape=[2, 2], dilations=[2, 3], opset=19),
    case("AveragePool", SIGNAL, kernel_shape=[3], strides=[2]),
    case("AveragePool", VOLUME, kernel_shape=[2, 2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[2, 2], opset=7),
    case("GlobalAveragePool", IMAGE),
    case("GlobalAveragePool", SIGNAL),
    case("GlobalMaxPool", IMAGE),
    case("GlobalLpPool", IMAGE, p=2),
    case("GlobalLpPool", IMAGE, p=3),
    case("LpPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], p=2),
    case("LpPool", IMAGE, kernel_shape=[3, 2], p=1),
    case("MaxUnpool", noise(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]]), kernel_shape=[2, 2],
         strides=[2, 2]),
    case("MaxUnpool", noise(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]]), i64(1, 1, 5, 5),
         kernel_shape=[2, 2], strides=[2, 2], stored=(2,)),
]  # fmt: skip

_BN = (IMAGE, C4P, C4, C4 * 0.3, C4P[::-1].copy())

NORMS: list[Case] = [
    case("BatchNormalization", *_BN, stored=(1, 2, 3, 4)),
    case("BatchNormalization", *_BN, stored=(1, 2, 3, 4), epsilon=1e-2),
    case("BatchNormalization", *_BN, stored=(1, 2, 3, 4), opset=7),
    case("BatchNormalization", *_BN, stored=(1, 2, 3, 4), opset=9, momentum=0.5),
    case("BatchNormalization", *_BN),
    case("BatchNormalization", SIGNAL, *_BN[1:], stored=(1, 2, 3, 4)),
    case("BatchNormalization", noise(3, 4), *_BN[1:], stored=(1, 2, 3, 4)),
    case("BatchNormalization", *_BN, stored=(1, 2, 3, 4), training_mode=1, outputs=3,
         momentum=0.8, by_reference=True),
    case("InstanceNormalization", IMAGE, C4P, C4, stored=(1, 2)),
    case("InstanceNormalization", SIGNAL, C4P, C4, epsilon=1e-2, opset=7),
    case("LayerNormalization", IMAGE, positive(8), noise(8), stored=(1, 2)),
    case("LayerNormalization", IMAGE, positive(8)),
    case("LayerNormalization", IMAGE, positive(9, 8), noise(9, 8), axis=2, epsilon=1e-2),
    case("LayerNormalization", IMAGE, positive(8), noise(8), outputs=3),
    case("LayerNormalization", IMAGE, positive(4, 9, 8), axis=-3),
    case("GroupNormalization", IMAGE, positive(2), noise(2), num_groups=2, opset=18,
         by_reference=True),
    case("GroupNormalization", IMAGE, C4P, C4, num_groups=2, opset=21),
    case("RMSNormalization", IMAGE, positive(8), opset=23),
    case("RMSNormalization", IMAGE, positive(9, 8), opset=23, axis=2, epsilon=1e-2),
    case("LRN", noise(2, 7, 3, 3), size=3),
    case("LRN", noise(2, 7, 3, 3), size=5, alpha=0.2, beta=0.5, bias=2.0),
    case("LpNormalization", IMAGE),
    case("LpNormalization", IMAGE, p=1, axis=1),
    case("LpNormalization", np.array([[0, 0], [3, 4]], np.float32), axis=1),
    case("MeanVarianceNormalization", IMAGE),
    case("MeanVarianceNormalization", IMAGE, axes=[2, 3]),
]  # fmt: skip

A, B = noise(3, 4), noise(4, 5, seed=6)

LINEAR: list[Case] = [
    case("Gemm", A, B, noise(5), stored=(1, 2)),
    case("Gemm", A, B),
    case("Gemm", A, B, noise(3, 1)),
    case("Gemm", A, B, noise(1)),
    case("Gemm", A.T.copy(), B.T.copy(), noise(3, 5), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", A, B, noise(5), opset=7, alpha=0.5),
    case("Gemm", A, B, alpha=0.5),
    case("MatMul", A, B),
    case("MatMul", noise(2, 3, 3, 4), B, stored=(1,)),
    case("MatMul", noise(2, 1, 3, 4), noise(5, 4, 2)),
    case("MatMul", noise(4), B),
    case("MatMul", A, noise(4)),
    case("Einsum", noise(2, 3, 4), noise(2, 4, 5), equation="bij, bjk -> bik"),
    case("Einsum", noise(2, 3, 3), equation="...ii->...i"),
    case("Einsum", noise(2, 3, 4), noise(5, 4), equation="bhi,oi->bho", stored=(1,)),
]


def recurrent(op: str, gates: int, directions: int = 1, *, lengths: bool = False,
              state: bool = False, bias: bool = True, **attributes: Any) -> Case:  # fmt: skip
    steps, samples, inputs, hidden = 5, 3, 4, 6
    first_axis = attributes.get("layout", 0)
    x = noise(samples, steps, inputs) if first_axis else noise(steps, samples, inputs)
    shape = (samples, directions, hidden) if first_axis else (directions, samples, hidden)
    states = 2 if op == "LSTM" else 1
    operands: list[Any] = [
        x,
        noise(directions, gates * hidden, inputs, seed=1),
        noise(directions, gates * hidden, hidden, seed=2) * np.float32(0.5),
        noise(directions, 2 * gates * hidden, seed=3) if bias else None,
        np.array([5, 2, 3], np.int32) if lengths else None,
        *(noise(*shape, seed=9 + i) if state else None for i in range(states)),
    ]
    while operands[-1] is None:
        operands.pop()
    stored = tuple(place for place in (1, 2, 3) if place < len(operands) and
                   operands[place] is not None)  # fmt: skip
    return case(op, *operands, hidden_size=hidden, stored=stored, outputs=states + 1, **attributes)


RECURRENT: list[Case] = [
    *(
        recurrent(op, gates, **options)
        for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
        for options in (
            {},
            {"bias": False},
            {"state": True, "direction": "reverse"},
            {"directions": 2, "direction": "bidirectional", "state": True},
            {"directions": 2, "direction": "bidirectional", "lengths": True},
        )
    ),
    # onnxruntime has no layout 1
    *(
        recurrent(op, gates, layout=1, state=True, by_reference=True)
        for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
    ),
    recurrent("GRU", 3, linear_before_reset=1),
    recurrent("GRU", 3, linear_before_reset=1, lengths=True, directions=2,
              direction="bidirectional"),
    recurrent("LSTM", 4, input_forget=1),
    recurrent("LSTM", 4, activations=["Sigmoid", "Relu", "Softsign"]),
    recurrent("RNN", 1, activations=["Relu"]),
    case("LSTM", noise(5, 3, 4), noise(1, 24, 4, seed=1), noise(1, 24, 6, seed=2), None, None, None,
         None, noise(1, 18, seed=4), stored=(1, 2, 7), hidden_size=6, outputs=3),
]  # fmt: skip

SMALL = noise(2, 3, 4, 5)
_NOTHING = np.zeros(0, np.float32)


def resized(scales: Any = None, sizes: Any = None, x: np.ndarray = SMALL, **options: Any) -> Case:
    if scales is not None:
        return case("Resize", x, _NOTHING, f32(*scales), stored=(1, 2), **options)
    return case("Resize", x, _NOTHING, _NOTHING, i64(*sizes), stored=(1, 2, 3), **options)


_HOWS = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")

RESIZES: list[Case] = [
    *(
        resized(scales, mode=mode, coordinate_transformation_mode=how)
        for scales in ((1, 1, 2, 3), (1, 1, 0.6, 1.7))
        for mode in ("nearest", "linear", "cubic")
        for how in _HOWS
    ),
    *(
        resized(sizes=(2, 3, 7, 3), mode=mode, coordinate_transformation_mode=how)
        for mode in ("nearest", "linear", "cubic")
        for how in _HOWS
    ),
    *(
        resized((1, 1, 2, 0.7), mode="nearest", nearest_mode=rounding,
                coordinate_transformation_mode=how)
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for how in ("asymmetric", "half_pixel")
    ),
    resized((1, 1, 2, 2), mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor"),
    resized(sizes=(2, 3, 1, 1), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    resized(sizes=(2, 3, 1, 1), mode="linear", coordinate_transformation_mode="align_corners"),
    resized((1, 1, 2, 2), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    resized((1, 1, 0.5, 0.4), mode="linear", antialias=1, opset=18),
    resized((1, 1, 0.5, 0.4), mode="cubic", antialias=1, opset=18),
    resized((1, 1, 1.6, 2.3), mode="linear", antialias=1, opset=18),
    resized((2.0, 0.5), axes=[2, 3], opset=18, mode="linear"),
    resized(sizes=(7, 8), axes=[2, 3], opset=18, mode="linear",
            keep_aspect_ratio_policy="not_larger"),
    resized(sizes=(7, 8), axes=[2, 3], opset=18, mode="nearest",
            keep_aspect_ratio_policy="not_smaller"),
    resized((1, 1, 1.7, 2.2), mode="linear", coordinate_transformation_mode="half_pixel_symmetric",
            opset=19),
    resized((1, 1, 2), x=noise(2, 3, 5), mode="linear"),
    resized((1, 1, 2, 2, 2), x=noise(1, 2, 3, 4, 2), mode="linear"),
    resized((2, 3), x=noise(4, 5), mode="linear"),
    case("Resize", SMALL, f32(0, 0, 0.1, 0.2, 1, 1, 0.8, 1.3), _NOTHING, i64(2, 3, 3, 4),
         stored=(1, 2, 3), mode="linear", coordinate_transformation_mode="tf_crop_and_resize",
         extrapolation_value=7.0),
    case("Resize", SMALL, f32(1, 1, 2, 3), stored=(1,), opset=10, mode="nearest"),
    case("Resize", SMALL, f32(1, 1, 2, 3), stored=(1,), opset=10, mode="linear"),
    case("Upsample", SMALL, f32(1, 1, 2, 3), stored=(1,), opset=9),
    case("Upsample", SMALL, f32(1, 1, 2, 2), stored=(1,), opset=9, mode="linear"),
    case("Upsample", SMALL, opset=7, scales=[1.0, 1.0, 2.0, 2.0]),
    *(
        case("GridSample", SMALL, np.clip(noise(2, 6, 7, 2), -1.3, 1.3), opset=16, mode=mode,
             padding_mode=padding, align_corners=corners)
        for mode, padding, corners in (
            ("bilinear", "zeros", 0), ("bilinear", "border", 1), ("nearest", "reflection", 0),
            ("bicubic", "zeros", 0),
        )
    ),
    case("GridSample", SMALL, noise(2, 6, 7, 2) * np.float32(0.5), opset=20, mode="linear"),
]  # fmt: skip

CASES: list[Case] = [*CONVS, *POOLS, *NORMS, *LINEAR, *RECURRENT, *RESIZES]
