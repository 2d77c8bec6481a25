"""Operators that move entries and compute none. Sizes come as host numbers, or torch's symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op, ints, to_tensor

_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def reshape(op: Op, x: Tensor, shape: Any) -> Tensor:
    """0 copies a size (unless `allowzero`), -1 is what remains."""
    wanted = ints(shape)
    if not op.attr("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(op: Op, x: Tensor) -> Tensor:
    """Axes before `axis` into one, the others into another."""
    axis = op.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 0:
        return x.reshape(1, -1)
    if axis == x.ndim:
        return x.reshape(-1, 1)
    return x.flatten(axis).flatten(0, axis - 1) if axis > 1 else x.flatten(axis)


def squeeze(op: Op, x: Tensor, axes: Any = None) -> Tensor:
    """Drops axes of size 1."""
    given = op.attr("axes") if axes is None else ints(axes)
    if not given:
        return x.squeeze()
    for axis in given:
        if x.shape[axis] != 1:
            raise op.unsupported(f"an axis {axis} of size {x.shape[axis]}, which is not 1,")
    return x.squeeze(tuple(given))


def unsqueeze(op: Op, x: Tensor, axes: Any = None) -> Tensor:
    """Inserts axes of size 1, counted in the result."""
    given = op.attr("axes") if axes is None else ints(axes)
    rank = x.ndim + len(given)
    for axis in sorted(axis % rank for axis in given):
        x = x.unsqueeze(axis)
    return x


def transpose(op: Op, x: Tensor) -> Tensor:
    """Axes in another order, reversed by default."""
    return x.permute(op.attr("perm") or list(range(x.ndim))[::-1])


def concat(op: Op, *tensors: Tensor) -> Tensor:
    """One after the other along an axis."""
    return torch.cat(tensors, dim=op.attr("axis", 1))


def split(op: Op, x: Tensor, sizes: Any = None) -> tuple[Tensor, ...]:
    """Into the sizes given, or into equal parts of which the last may be smaller."""
    axis = op.attr("axis", 0)
    given = op.attr("split") if sizes is None else ints(sizes)
    if given is None:
        parts = op.attr("num_outputs", len(op.wanted))
        given = -(-x.shape[axis] // parts)
    return tuple(torch.split(x, given, dim=axis))


def slice_(
    op: Op, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    """Attributes before operator set 10, then operands; steps may be negative."""
    begin = op.attr("starts") if starts is None else ints(starts)
    end = op.attr("ends") if ends is None else ints(ends)
    along = op.attr("axes") if axes is None else ints(axes)
    step = [1] * len(begin) if steps is None else ints(steps)
    for axis, low, high, by in zip(along or range(len(begin)), begin, end, step, strict=False):
        x = _sliced(x, int(axis) % x.ndim, low, high, int(by))
    return x


def _sliced(x: Tensor, axis: int, low: Any, high: Any, step: int) -> Tensor:
    size = x.shape[axis]
    if step > 0:
        index: list[Any] = [slice(None)] * x.ndim
        index[axis] = slice(low, None if _is_open(high) else high, step)
        return x[tuple(index)]
    # torch has no negative steps: reverse, then step forwards
    low, high = low + size if low < 0 else low, high + size if high < 0 else high
    low, high = min(max(low, 0), size - 1), max(min(high, size - 1), -1)
    index = [slice(None)] * x.ndim
    index[axis] = slice(size - 1 - low, max(size - 1 - high, 0), -step)
    return x.flip(axis)[tuple(index)]


def _is_open(bound: Any) -> bool:
    """Exporters spell `to the end` as the largest integer."""
    return isinstance(bound, int) and bound >= 2**31 - 1


def pad(op: Op, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    """Constant, reflecting, repeating or wrapping; negative amounts crop."""
    amounts = op.attr("pads") if pads is None else ints(pads)
    fill = op.attr("value", 0.0) if value is None else value.reshape(-1)[0].item()
    along = list(range(x.ndim)) if axes is None else [a % x.ndim for a in ints(axes)]
    begin, end = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(along):
        begin[axis], end[axis] = amounts[place], amounts[place + len(along)]
    mode = op.attr("mode", "constant")
    if mode == "constant":
        return _constant_pad(x, begin, end, fill)
    for axis in range(x.ndim):
        x = _extended(x, axis, begin[axis], end[axis], mode)
    return x


def _constant_pad(x: Tensor, begin: list[Any], end: list[Any], fill: Any) -> Tensor:
    flat = [n for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair]
    while len(flat) >= 2 and flat[-1] == 0 and flat[-2] == 0:
        del flat[-2:]
    if not flat:
        return x
    if x.dtype == torch.bool:
        return F.pad(x.to(torch.uint8), flat, value=int(fill)).to(torch.bool)
    return F.pad(x, flat, value=fill)


def _extended(x: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    """Pads one axis by picking entries (any rank, any amount; torch limits both)."""
    if begin < 0 or end < 0:
        x = x.narrow(axis, max(-begin, 0), x.shape[axis] + min(begin, 0) + min(end, 0))
        begin, end = max(begin, 0), max(end, 0)
    if begin == 0 and end == 0:
        return x
    size = x.shape[axis]
    places = np.arange(-begin, size + end)
    if mode == "edge":
        places = places.clip(0, size - 1)
    elif mode == "wrap":
        places = places % size
    else:
        period = max(2 * (size - 1), 1)
        places = np.abs((places + size - 1) % period - (size - 1)) if size > 1 else places * 0
    return x.index_select(axis, to_tensor(places.astype(np.int64), x.device))


def expand(op: Op, x: Tensor, shape: Any) -> Tensor:
    """Broadcast against a shape; sizes of x stay where the shape says 1."""
    wanted = ints(shape)
    rank = max(x.ndim, len(wanted))
    own = [1] * (rank - x.ndim) + list(x.shape)
    wanted = [1] * (rank - len(wanted)) + wanted
    for a, b in zip(own, wanted, strict=True):
        if a != 1 and b not in (1, a):
            raise ValueError(f"an axis of size {a} cannot be expanded to {b}")
    return x.expand([b if a == 1 else a for a, b in zip(own, wanted, strict=True)])


def tile(op: Op, x: Tensor, repeats: Any) -> Tensor:
    """Repeats along every axis."""
    return x.repeat(ints(repeats))


def depth_to_space(op: Op, x: Tensor) -> Tensor:
    """Blocks of channels become blocks of pixels: depth first (DCR) or column first (CRD)."""
    n, c, h, w = x.shape
    b = op.attr("blocksize")
    if op.attr("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(op: Op, x: Tensor) -> Tensor:
    """Blocks of pixels become blocks of channels."""
    n, c, h, w = x.shape
    b = op.attr("blocksize")
    y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)


def constant_of_shape(op: Op, shape: Any) -> Tensor:
    """One value everywhere, the float 0 by default."""
    value = op.attr("value")
    fill = to_tensor(np.zeros(1, np.float32) if value is None else value.reshape(-1))
    return fill.reshape([1] * shape.size).expand(ints(shape)).clone()


def shape_of(op: Op, x: Tensor) -> Any:
    """Sizes, from `start` to `end`."""
    return sizes_array(list(x.shape)[slice(op.attr("start", 0), op.attr("end"))])


def size_of(op: Op, x: Tensor) -> Any:
    """Number of entries."""
    total: Any = 1
    for size in x.shape:
        total = total * size
    return sizes_array([total]).reshape(())


def sizes_array(sizes: list[Any]) -> Any:
    """Sizes as int64, or as objects where torch keeps one of them open."""
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, np.int64)
    array = np.empty(len(sizes), object)
    array[:] = sizes
    return array
