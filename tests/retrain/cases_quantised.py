"""Cases of operators on integers that stand for real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrain.lift_case import Case, case, f32, noise, whole

MICROSOFT = "com.microsoft"
FLOAT, UINT8, INT8 = 1, 2, 3
X = noise(2, 4, 6, 6)
SCALE, ZERO = np.float32(0.023), np.uint8(121)
OUT = np.float32(0.171), np.uint8(96)


def codes(*shape: int, seed: int = 2, dtype: Any = np.uint8) -> np.ndarray:
    low = 0 if dtype == np.uint8 else -120
    return whole(*shape, low=low, high=low + 240, seed=seed, dtype=dtype)


def stored(op: str, *operands: Any, **options: Any) -> Case:
    """Everything but the first operand is an initializer."""
    places = tuple(i for i, x in enumerate(operands) if i and x is not None)
    return case(op, *operands, stored=places, **options)


W = codes(6, 4, 3, 3, dtype=np.int8)
ROWS = f32(*np.linspace(0.01, 0.03, 6))

CASES: list[Case] = [
    *(
        stored("QuantizeLinear", X, SCALE, zero, domain=domain, elem_type=kind)
        for domain in ("", MICROSOFT)
        for zero, kind in ((np.uint8(121), UINT8), (np.int8(-3), INT8))
    ),
    stored("QuantizeLinear", X, SCALE),
    stored("QuantizeLinear", X * 9, f32(0.01, 0.02, 0.03, 0.04), codes(4), axis=1),
    stored("QuantizeLinear", X, f32(*np.linspace(0.01, 0.06, 6)), codes(6), axis=-1),
    stored("DequantizeLinear", codes(2, 4, 3), SCALE, ZERO),
    stored("DequantizeLinear", codes(2, 4, 3), SCALE, ZERO, domain=MICROSOFT, elem_type=FLOAT),
    stored("DequantizeLinear", codes(2, 4, 3), f32(0.01, 0.02, 0.03, 0.04), codes(4), axis=1),
    stored("DequantizeLinear", whole(2, 4, dtype=np.int32), SCALE),
    case("DynamicQuantizeLinear", X, outputs=3),
    case("DynamicQuantizeLinear", np.abs(X), outputs=3),
    stored("QLinearConv", codes(2, 4, 6, 6), SCALE, ZERO, W, SCALE, np.int8(3), *OUT,
           pads=[1, 1, 1, 1]),
    stored("QLinearConv", codes(2, 4, 6, 6), SCALE, ZERO, W, ROWS, np.zeros(6, np.int8), *OUT,
           whole(6, low=-900, high=900, dtype=np.int32), strides=[2, 2]),
    stored("QLinearConv", codes(2, 8, 6, 6), SCALE, ZERO, W, SCALE, np.int8(0), *OUT, group=2),
    stored("ConvInteger", codes(2, 4, 6, 6), W.astype(np.uint8), ZERO, np.uint8(7)),
    stored("ConvInteger", codes(2, 4, 6, 6), W.astype(np.uint8)),
    stored("QLinearMatMul", codes(3, 5), SCALE, ZERO, codes(5, 4, seed=5), SCALE, np.uint8(118),
           *OUT),
    stored("QLinearMatMul", codes(2, 3, 5), SCALE, ZERO, codes(5, 4, dtype=np.int8),
           f32(0.01, 0.02, 0.03, 0.04), np.zeros(4, np.int8), *OUT),
    stored("MatMulInteger", codes(3, 5), codes(5, 4, seed=5), ZERO, np.uint8(118)),
    stored("MatMulInteger", codes(3, 5), codes(5, 4, seed=5)),
    *(
        stored(op, codes(2, 3, 4), SCALE, ZERO, codes(3, 4, seed=6), np.float32(0.03),
               np.uint8(7), np.float32(0.063), np.uint8(128), domain=MICROSOFT)
        for op in ("QLinearAdd", "QLinearMul")
    ),
    stored("QLinearSigmoid", codes(2, 3, 4), SCALE, ZERO, np.float32(1 / 256), np.uint8(0),
           domain=MICROSOFT),
    stored("QLinearLeakyRelu", codes(2, 3, 4), SCALE, ZERO, np.float32(0.019), np.uint8(60),
           alpha=0.1, domain=MICROSOFT),
    stored("QLinearGlobalAveragePool", codes(2, 3, 4, 5), SCALE, ZERO, np.float32(0.011),
           np.uint8(120), domain=MICROSOFT),
    stored("QLinearAveragePool", codes(2, 3, 4, 5), SCALE, ZERO, np.float32(0.0219), np.uint8(120),
           kernel_shape=[2, 2], domain=MICROSOFT),
    case("QLinearConcat", np.float32(0.04), np.uint8(99), codes(2, 3), SCALE, ZERO,
         codes(2, 4, seed=7), np.float32(0.031), np.uint8(8), axis=1, stored=(0, 1, 3, 4, 6, 7),
         elem_type=UINT8, domain=MICROSOFT),
    stored("QGemm", codes(3, 5), SCALE, ZERO, codes(5, 4, seed=5), SCALE, np.uint8(118),
           whole(4, low=-900, high=900, dtype=np.int32), *OUT, alpha=0.5, domain=MICROSOFT),
    stored("QGemm", codes(3, 5), SCALE, ZERO, codes(4, 5, dtype=np.int8),
           f32(0.01, 0.02, 0.03, 0.04),
           np.zeros(4, np.int8), transB=1, elem_type=FLOAT,
           domain=MICROSOFT),
]  # fmt: skip
