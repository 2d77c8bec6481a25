"""Shape arithmetic on the host.

Exporters compute shapes with the operators that activations use: Shape, Gather, Concat, Mul, ...
Here they run on numpy arrays, so that a size never visits the accelerator. Arrays have the type
that ONNX says; where torch.export keeps a size open they hold its symbols as objects, which numpy
adds, multiplies and compares like numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import onnx

from onnx_scsp.retrain.lift.layout import sizes_array
from onnx_scsp.retrain.lift.op import Op, ints
from onnx_scsp.types import AnyArray

MOST = 1 << 14
"""Constants of more entries than this are no shape arithmetic."""


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda op, a, b: _kept(function(a, b))


def _variadic(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda op, *arrays: _kept(reduce(function, arrays))


def _kept(value: Any) -> AnyArray:
    """Undoes that numpy turns results of rank 0 into scalars."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    return np.asarray(sizes_array([value]).reshape(()))


def _div(op: Op, a: AnyArray, b: AnyArray) -> AnyArray:
    if object in (a.dtype, b.dtype):
        return _objects(_quotient, a, b)
    if np.issubdtype(a.dtype, np.integer):
        return np.asarray((np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)).astype(a.dtype))
    return np.asarray(a / b)


def _quotient(a: Any, b: Any) -> Any:
    """Sizes are not negative: towards zero is downwards."""
    return a / b if isinstance(a, float) or isinstance(b, float) else a // b


def _objects(function: Callable[..., Any], *arrays: AnyArray) -> AnyArray:
    """Applies a function entry by entry, keeping torch's symbols."""
    grid = np.broadcast_arrays(*(array.astype(object) for array in arrays))
    results = [function(*entries) for entries in zip(*(each.flat for each in grid), strict=True)]
    flat = np.empty(len(results), object)
    flat[:] = results
    return np.asarray(flat.reshape(grid[0].shape))


def _mod(op: Op, a: AnyArray, b: AnyArray) -> AnyArray:
    return _kept(np.fmod(a, b) if op.attr("fmod", 0) else a % b)


def _power(op: Op, a: AnyArray, b: AnyArray) -> AnyArray:
    return np.asarray(np.power(a, b)).astype(a.dtype)


def _cast(op: Op, x: AnyArray) -> AnyArray:
    if x.dtype != object:
        return np.asarray(x.astype(onnx.helper.tensor_dtype_to_np_dtype(op.attr("to"))))
    if op.attr("to") in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        return _objects(lambda value: value * 1.0, x)
    if op.attr("to") in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
        return _objects(lambda value: math.trunc(value) if _is_real(value) else value, x)
    raise op.unsupported("this conversion of an open size")


def _is_real(value: Any) -> bool:
    return type(value).__name__ in ("float", "SymFloat")


def _rounding(function: Callable[[Any], Any], symbolic: Callable[[Any], Any]) -> Callable[..., Any]:
    def run(op: Op, x: AnyArray) -> AnyArray:
        return _objects(symbolic, x) if x.dtype == object else np.asarray(function(x))

    return run


def _concat(op: Op, *arrays: AnyArray) -> AnyArray:
    return np.asarray(np.concatenate(arrays, axis=op.attr("axis", 0)))


def _gather(op: Op, x: AnyArray, indices: AnyArray) -> AnyArray:
    return _kept(np.take(x, indices.astype(np.int64), axis=op.attr("axis", 0)))


def _slice(
    op: Op, x: AnyArray, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> AnyArray:
    begin = op.attr("starts") if starts is None else ints(starts)
    end = op.attr("ends") if ends is None else ints(ends)
    along = op.attr("axes") if axes is None else ints(axes)
    step = [1] * len(begin) if steps is None else ints(steps)
    index: list[Any] = [slice(None)] * x.ndim
    for axis, low, high, by in zip(along or range(len(begin)), begin, end, step, strict=False):
        # a negative step runs to the front when the end lies before it
        stop = None if by < 0 and high < -x.shape[axis] else high
        index[axis] = slice(low, stop, by)
    return np.asarray(x[tuple(index)])


def _squeeze(op: Op, x: AnyArray, axes: Any = None) -> AnyArray:
    given = op.attr("axes") if axes is None else ints(axes)
    return np.squeeze(x, tuple(given) if given else None)


def _unsqueeze(op: Op, x: AnyArray, axes: Any = None) -> AnyArray:
    return np.expand_dims(x, tuple(op.attr("axes") if axes is None else ints(axes)))


def _reshape(op: Op, x: AnyArray, shape: AnyArray) -> AnyArray:
    wanted = ints(shape)
    if not op.attr("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


def _transpose(op: Op, x: AnyArray) -> AnyArray:
    return np.transpose(x, op.attr("perm"))


def _split(op: Op, x: AnyArray, sizes: Any = None) -> tuple[AnyArray, ...]:
    axis = op.attr("axis", 0)
    given = op.attr("split") if sizes is None else ints(sizes)
    if given is None:
        parts = op.attr("num_outputs", len(op.wanted))
        each = -(-x.shape[axis] // parts)
        bounds = [each * part for part in range(1, parts)]
    else:
        bounds = list(np.cumsum(given)[:-1])
    return tuple(np.split(x, bounds, axis))


def _expand(op: Op, x: AnyArray, shape: AnyArray) -> AnyArray:
    wanted = tuple(int(size) for size in ints(shape))
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, wanted))


def _tile(op: Op, x: AnyArray, repeats: AnyArray) -> AnyArray:
    return np.tile(x, tuple(int(count) for count in ints(repeats)))


def _range(op: Op, start: AnyArray, limit: AnyArray, delta: AnyArray) -> AnyArray:
    low, high, step = (array.reshape(-1)[0] for array in (start, limit, delta))
    dtype = np.int64 if start.dtype == object else start.dtype
    return np.arange(int(low) if dtype == np.int64 else low, high, step, dtype=dtype)


def _constant_of_shape(op: Op, shape: AnyArray) -> AnyArray:
    value = op.attr("value")
    fill = np.zeros(1, np.float32) if value is None else value.reshape(-1)
    return np.full(tuple(int(size) for size in ints(shape)), fill[0], fill.dtype)


def _reducing(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(op: Op, x: AnyArray, axes: Any = None) -> AnyArray:
        given = op.attr("axes") if axes is None else ints(axes)
        if not given and op.attr("noop_with_empty_axes", 0):
            return x
        along = tuple(given) if given else tuple(range(x.ndim))
        reduced = function(x, axis=along, keepdims=bool(op.attr("keepdims", 1)))
        return _kept(reduced) if x.dtype == object else np.asarray(reduced, x.dtype)

    return run


def _where(op: Op, condition: AnyArray, a: AnyArray, b: AnyArray) -> AnyArray:
    if object in (a.dtype, b.dtype):
        return _objects(lambda c, x, y: x if c else y, condition, a, b)
    return np.where(condition.astype(bool), a, b)


def _compared(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def run(op: Op, a: AnyArray, b: AnyArray) -> AnyArray:
        return np.asarray(_objects(function, a, b).astype(bool)) if object in (
            a.dtype, b.dtype
        ) else np.asarray(function(a, b))  # fmt: skip

    return run


def _identity(op: Op, x: AnyArray) -> AnyArray:
    return x


HOST: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda op, x: _kept(abs(x)),
    "Add": _binary(lambda a, b: a + b),
    "And": _binary(np.logical_and),
    "Cast": _cast,
    "Ceil": _rounding(np.ceil, math.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _div,
    "Equal": _compared(lambda a, b: a == b),
    "Expand": _expand,
    "Floor": _rounding(np.floor, math.floor),
    "Gather": _gather,
    "Greater": _compared(lambda a, b: a > b),
    "GreaterOrEqual": _compared(lambda a, b: a >= b),
    "Identity": _identity,
    "Less": _compared(lambda a, b: a < b),
    "LessOrEqual": _compared(lambda a, b: a <= b),
    "Max": _variadic(np.maximum),
    "Min": _variadic(np.minimum),
    "Mod": _mod,
    "Mul": _binary(lambda a, b: a * b),
    "Neg": lambda op, x: _kept(-x),
    "Not": lambda op, x: np.logical_not(x),
    "Or": _binary(np.logical_or),
    "Pow": _power,
    "Range": _range,
    "ReduceMax": _reducing(np.max),
    "ReduceMin": _reducing(np.min),
    "ReduceProd": _reducing(np.prod),
    "ReduceSum": _reducing(np.sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sqrt": _rounding(np.sqrt, lambda value: value**0.5),
    "Sub": _binary(lambda a, b: a - b),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""Operators of the default domain that run on the host when all their operands are there."""


def runs_on_host(op_type: str, operands: list[Any]) -> bool:
    """Whether a node is shape arithmetic: operands known on the host, and a small result.

    ConstantOfShape and Expand with a shape of several axes fill activations, not shapes.
    """
    if op_type not in HOST or not all(x is None or isinstance(x, np.ndarray) for x in operands):
        return False
    if op_type in ("ConstantOfShape", "Expand"):
        return bool(operands[-1].size <= 1)
    return True
