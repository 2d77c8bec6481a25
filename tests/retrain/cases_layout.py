"""Cases of operators that move, pick, count or reduce entries."""

from __future__ import annotations

import numpy as np
from onnx import helper

from retrain.lift_case import Case, case, f32, i64, noise, positive, truth, whole

X = noise(2, 3, 4, 5)
INTS = whole(2, 3, 4)
END = np.iinfo(np.int64).max

LAYOUT: list[Case] = [
    case("Reshape", X, i64(2, -1), stored=(1,)),
    case("Reshape", X, i64(0, 0, -1), stored=(1,)),
    case("Reshape", X, i64(6, 20)),
    case("Reshape", noise(0, 3), i64(3, 0), stored=(1,), allowzero=1),
    case("Reshape", X, i64(0, 12, 5), stored=(1,), opset=7),
    *(case("Flatten", X, axis=axis) for axis in (0, 1, 2, 4, -1)),
    case("Flatten", X, opset=7),
    case("Squeeze", noise(2, 1, 3, 1), i64(1, 3), stored=(1,)),
    case("Squeeze", noise(2, 1, 3, 1), i64(-1), stored=(1,)),
    case("Squeeze", noise(2, 1, 3, 1)),
    case("Squeeze", noise(2, 1, 3, 1), axes=[1], opset=11),
    case("Unsqueeze", X, i64(0, -1), stored=(1,)),
    case("Unsqueeze", X, axes=[1, 2], opset=11),
    case("Transpose", X),
    case("Transpose", X, perm=[0, 2, 3, 1]),
    case("Concat", X, X + 1, X * 2, axis=1),
    case("Concat", X, X + 1, axis=-1),
    case("Split", X, axis=3, split=[2, 3], opset=11, outputs=2),
    case("Split", X, i64(1, 3), axis=2, stored=(1,), outputs=2),
    case("Split", X, axis=2, outputs=2),
    case("Split", X, axis=3, num_outputs=2, opset=18, outputs=2),
    case("Split", X, axis=0, outputs=2, skip_outputs=(0,), by_reference=True),
    case("Slice", X, i64(1, 0), i64(3, END), i64(2, 3), i64(1, 2), stored=(1, 2, 3, 4)),
    case("Slice", X, i64(-3), i64(-1), i64(-1), stored=(1, 2, 3)),
    case("Slice", X, i64(0, 1, 1), i64(2, 3, 99)),
    case("Slice", X, i64(-1, 3), i64(-END, 0), i64(2, 3), i64(-1, -2), stored=(1, 2, 3, 4)),
    case("Slice", X, i64(99), i64(-99), i64(3), i64(-3), stored=(1, 2, 3, 4)),
    case("Slice", X, i64(4), i64(1), i64(3), i64(-1), stored=(1, 2, 3, 4)),
    case("Slice", X, starts=[1], ends=[2**31 - 1], axes=[3], opset=9),
    case("Slice", X, starts=[0, 1], ends=[1, 3], opset=7),
    *(
        case("Pad", X, i64(0, 1, 2, 0, 1, 0, 1, 3), mode=mode, stored=(1,))
        for mode in ("constant", "reflect", "edge")
    ),
    case("Pad", X, i64(0, 1, 2, 0, 1, 0, 1, 3), np.array(2.5, np.float32), stored=(1, 2)),
    case("Pad", X, i64(0, 0, -1, 0, 0, 0, 1, -2), stored=(1,)),
    case("Pad", X, i64(0, 0, 0, 1, 0, 0, 0, 1)),
    case("Pad", X, i64(1, 2), None, i64(-1), stored=(1, 3), opset=18),
    case("Pad", X, i64(2, 1, 3, 4), None, i64(2, 3), stored=(1, 3), opset=19, mode="wrap"),
    case("Pad", X, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.5, opset=7),
    case("Pad", X, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect", opset=10),
    case("Pad", INTS, i64(0, 0, 1, 0, 1, 0), stored=(1,)),
    case("Pad", truth(2, 3), i64(0, 1, 1, 0), stored=(1,), by_reference=True),
    case("Expand", noise(3, 1), i64(2, 3, 4), stored=(1,)),
    case("Expand", X, i64(1, 1, 1), stored=(1,)),
    case("Expand", noise(3, 1), i64(3, 4)),
    case("Tile", noise(2, 3), i64(2, 3), stored=(1,)),
    *(case("DepthToSpace", noise(2, 12, 2, 3), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    case("SpaceToDepth", noise(2, 3, 4, 6), blocksize=2),
    case("ConstantOfShape", i64(2, 3), value=helper.make_tensor("v", 1, [1], [1.5])),
    case("ConstantOfShape", i64(4), value=helper.make_tensor("v", 7, [1], [3])),
    case("ConstantOfShape", i64(2, 3)),
    case("Shape", X),
    case("Shape", X, start=1, end=-1, opset=15),
    case("Size", X),
]  # fmt: skip

PLACES = np.array([[0, 2], [-1, 1]])

INDEXING: list[Case] = [
    case("Gather", X, PLACES, axis=2),
    case("Gather", X, np.array(1, np.int64), axis=1, stored=(1,)),
    case("Gather", X, np.array(-1, np.int64), axis=3, stored=(1,)),
    case("Gather", X, i64(2, 0, -1), axis=-1, stored=(1,)),
    case("Gather", X, np.array([1, 0], np.int32)),
    case("GatherElements", noise(3, 4), np.array([[0, -1, 2], [3, 1, -2]]), axis=1),
    case("GatherElements", noise(3, 4), np.array([[0, -1, 2, 1]])),
    case("GatherND", X, np.array([[0, 1], [-1, 2]])),
    case("GatherND", X, np.array([[[0], [2]], [[1], [0]]]), batch_dims=1),
    case("ScatterElements", noise(3, 4), np.array([[0, -1], [3, 1]]), noise(2, 2), axis=1),
    *(
        case("ScatterElements", noise(3, 4), np.array([[0, 0], [3, 1]]), noise(2, 2), axis=1,
             reduction=how, opset=18)
        for how in ("add", "mul", "max", "min")
    ),
    case("ScatterND", X, np.array([[0, 1], [-1, 2]]), noise(2, 4, 5)),
    *(
        case("ScatterND", X, np.array([[0, 1], [0, 1]]), noise(2, 4, 5), reduction=how, opset=18)
        for how in ("add", "mul", "max", "min")
    ),
    case("OneHot", np.array([0, 2, -1]), np.array(4), f32(0.5, 2.0), stored=(1,)),
    case("OneHot", np.array([[0, 2]]), np.array(4), f32(0, 1), axis=1, stored=(1,)),
    case("NonZero", np.round(X)),
    case("Compress", X, truth(4), axis=2),
    case("Compress", noise(6), truth(6)),
    case("Range", np.array(2), np.array(11), np.array(3)),
    case("Range", np.float32(5), np.float32(1), np.float32(-1.5)),
    case("Trilu", noise(2, 4, 4)),
    case("Trilu", noise(2, 4, 4), np.array(1), upper=0, stored=(1,)),
    case("Trilu", noise(4, 5), np.array(-1)),
    case("EyeLike", noise(3, 4)),
    case("EyeLike", noise(3, 4), k=1, dtype=7),
    case("ArgMax", np.round(X), axis=2),
    case("ArgMax", np.round(X), axis=-1, keepdims=0, select_last_index=1),
    case("ArgMin", np.round(X), axis=1),
    case("ArgMin", np.round(X), keepdims=0, select_last_index=1),
    case("CumSum", X, np.array(2, np.int32), stored=(1,)),
    case("CumSum", X, np.array(-1), exclusive=1, reverse=1),
    case("CumSum", INTS, np.array(1), exclusive=1),
    case("TopK", X, i64(3), stored=(1,), outputs=2),
    case("TopK", X, i64(2), axis=1, largest=0, outputs=2),
    case("TopK", np.round(X), i64(3), stored=(1,), outputs=2),
    case("TopK", X, k=2, opset=9, outputs=2),
]  # fmt: skip

_NAMES = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()


def _reduced(name: str, opset: int, **options: object) -> Case:
    by_operand = opset >= (13 if name == "Sum" else 18)
    axes = options.pop("axes", None)
    x = positive(2, 3, 4)
    if axes is None:
        return case(f"Reduce{name}", x, opset=opset, **options)
    if by_operand:
        return case(f"Reduce{name}", x, i64(*axes), opset=opset, stored=(1,), **options)
    return case(f"Reduce{name}", x, opset=opset, axes=axes, **options)


REDUCTIONS: list[Case] = [
    *(
        _reduced(name, opset, **options)
        for name in _NAMES
        for opset in (11, 18)
        for options in (
            {},
            {"axes": [1]},
            {"axes": [0, -1], "keepdims": 0},
        )
    ),
    *(_reduced(name, 18, noop_with_empty_axes=1) for name in ("Sum", "Mean", "Max")),
    case("ReduceSum", INTS, i64(1), stored=(1,)),
    case("ReduceMax", INTS, axes=[1], opset=13),
    case("ReduceProd", INTS, axes=[2], opset=13),
    case("ReduceMean", INTS.astype(np.int32), axes=[2], opset=13),
    case("ReduceL2", INTS.astype(np.int32), axes=[2], opset=13),
]

CASES: list[Case] = [*LAYOUT, *INDEXING, *REDUCTIONS]
