"""Cases of elementwise operators, activations and softmax."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from retrain.lift_case import Case, case, f32, noise, positive, truth, whole

X, Y = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=7)
ROW = noise(5, seed=8)
CHANNELS = noise(3, 1, 1, seed=9)
UNIT = (np.abs(X) % 0.9).astype(np.float32)
INTS, MORE = whole(2, 3, 4), whole(2, 3, 4, low=1, seed=5)

_PLAIN = (
    "Abs Ceil Cos Erf Exp Floor Neg Round Sigmoid Sign Sin Sinh Cosh Tan Tanh Softplus Softsign"
)
_UNIT = "Acos Asin Atan Atanh"
_POSITIVE = "Log Reciprocal Sqrt Asinh"
_COMPARISONS = "Equal Greater GreaterOrEqual Less LessOrEqual"

CASES: list[Case] = [
    *(case(op, X * 2) for op in _PLAIN.split()),
    *(case(op, UNIT) for op in _UNIT.split()),
    *(case(op, positive(2, 3, 4)) for op in _POSITIVE.split()),
    case("Acosh", positive(2, 3) + 1),
    case("Relu", X),
    case("Relu", X, opset=7),
    case("Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)),
    case("Identity", X),
    *(case(op, X, Y) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, X, ROW) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, CHANNELS, X, stored=(0,)) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, X, CHANNELS, opset=7, stored=(1,)) for op in ("Add", "Sub", "Mul", "Div")),
    case("Add", INTS, MORE),
    case("Div", INTS, MORE),
    case("Div", INTS, -MORE),
    case("Mod", INTS, MORE),
    case("Mod", INTS, -MORE),
    case("Mod", X, Y, fmod=1),
    case("Mod", INTS, -MORE, fmod=1),
    case("Pow", positive(2, 3), noise(2, 3)),
    case("Pow", X, np.array(2, np.int64)),
    case("Pow", X, f32(2.0), stored=(1,)),
    case("Max", X, Y, ROW),
    case("Min", X, Y, ROW),
    case("Max", X),
    case("Sum", X, Y, ROW),
    case("Mean", X, Y, ROW),
    *(case(op, np.round(X), np.round(Y)) for op in _COMPARISONS.split()),
    case("Equal", INTS, INTS % 3),
    *(case(op, truth(2, 3), truth(2, 3, seed=4)) for op in ("And", "Or", "Xor")),
    case("Not", truth(2, 3)),
    case("Where", truth(4, 5), X, Y),
    case("Where", truth(2, 3, 4, 5), X, np.array(0, np.float32), stored=(2,)),
    case("IsNaN", np.array([1, np.nan, np.inf], np.float32)),
    case("IsInf", np.array([1, -np.inf, np.inf], np.float32)),
    case("IsInf", np.array([1, -np.inf, np.inf], np.float32), detect_negative=0),
    case("IsInf", np.array([1, -np.inf, np.inf], np.float32), detect_positive=0),
    *(
        case(op, MORE.astype(np.int32), MORE[::-1].astype(np.int32), opset=18)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    case("BitwiseNot", MORE.astype(np.int32), opset=18),
    case("BitShift", whole(6, low=0, dtype=np.uint8), whole(6, low=0, high=4, dtype=np.uint8),
         direction="LEFT"),
    case("BitShift", whole(6, low=0, dtype=np.uint8), whole(6, low=0, high=4, dtype=np.uint8),
         direction="RIGHT"),
    *(
        case("Cast", X * 3, to=kind)
        for kind in (TensorProto.INT64, TensorProto.INT32, TensorProto.DOUBLE, TensorProto.BOOL,
                     TensorProto.FLOAT16)
    ),
    case("Cast", INTS, to=TensorProto.FLOAT),
    case("Cast", truth(3), to=TensorProto.FLOAT),
    case("CastLike", X * 3, INTS),
    case("Clip", X, np.array(-0.5, np.float32), np.array(0.25, np.float32)),
    case("Clip", X, np.array(-0.5, np.float32), np.array(0.25, np.float32), stored=(1, 2)),
    case("Clip", X, None, np.array(0.25, np.float32), stored=(2,)),
    case("Clip", X, np.array(0.25, np.float32), stored=(1,)),
    case("Clip", INTS, np.array(-2, np.int64), np.array(3, np.int64), stored=(1, 2)),
    case("Clip", X, opset=7, min=0.0, max=0.75),
    case("Clip", X, opset=9, max=0.75),
    case("LeakyRelu", X, alpha=0.3),
    case("LeakyRelu", X),
    case("PRelu", X, CHANNELS, stored=(1,)),
    case("PRelu", X, f32(0.2), stored=(1,)),
    case("PRelu", X, CHANNELS, opset=7, stored=(1,)),
    case("Elu", X, alpha=0.7),
    case("Elu", X),
    case("Celu", X, alpha=1.7),
    case("Selu", X),
    case("Selu", X, alpha=1.2, gamma=0.9),
    case("HardSigmoid", X * 4),
    case("HardSigmoid", X * 4, alpha=0.1666667, beta=0.4),
    case("HardSwish", X * 4),
    case("Mish", X, opset=18),
    case("ThresholdedRelu", X, alpha=0.4),
    case("ThresholdedRelu", X * 2),
    case("Shrink", X, lambd=0.3, bias=0.1),
    case("Gelu", X, opset=20),
    case("Gelu", X, opset=20, approximate="tanh"),
    case("Swish", X, opset=24, by_reference=True),
    case("Swish", X, opset=24, alpha=0.5, by_reference=True),
    case("Gelu", X, domain="com.microsoft"),
    case("QuickGelu", X, domain="com.microsoft"),
    case("QuickGelu", X, domain="com.microsoft", alpha=1.2),
    *(
        case(op, X, opset=opset, **attributes)
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for opset, attributes in (
            (13, {}), (13, {"axis": 1}), (13, {"axis": -2}), (11, {}), (11, {"axis": 2}), (7, {}),
        )
    ),
    case("Hardmax", np.array([[1, 3, 3, 2]], np.float32)),
    case("Dropout", X),
    case("Dropout", X, np.array(0.3, np.float32), stored=(1,)),
    case("Dropout", X, opset=7, ratio=0.4),
    case("Dropout", X, outputs=2),
]  # fmt: skip
"""One graph each; the table of operators is checked against them."""


__all__ = ["CASES"]
