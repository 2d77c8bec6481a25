"""Reductions.

Axes are an attribute up to operator set 17 (12 for ReduceSum), then an operand. Without axes all
are reduced, or none with `noop_with_empty_axes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op, ints

_Function = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def reducer(function: _Function) -> Callable[..., Tensor]:
    """A reduction from its function of (tensor, axes, keepdims)."""

    def run(op: Op, x: Tensor, axes: Any = None) -> Tensor:
        given = op.attr("axes") if axes is None else ints(axes)
        if not given:
            if op.attr("noop_with_empty_axes", 0):
                return _pointwise(function, x)
            given = range(x.ndim)
        return function(x, tuple(axis % x.ndim for axis in given), bool(op.attr("keepdims", 1)))

    return run


def _pointwise(function: _Function, x: Tensor) -> Tensor:
    """Nothing is reduced, but ReduceSumSquare still squares."""
    return function(x.unsqueeze(-1), (x.ndim,), False)


def reduce_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Sum."""
    return x.sum(axes, keepdim=keep, dtype=x.dtype) if axes else x


def reduce_mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Mean; of integers towards zero."""
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep) if axes else x
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(reduce_sum(x, axes, keep), count, rounding_mode="trunc")


def reduce_max(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Maximum."""
    return x.amax(axes, keepdim=keep) if axes else x


def reduce_min(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Minimum."""
    return x.amin(axes, keepdim=keep) if axes else x


def reduce_prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Product."""
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def reduce_l1(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Sum of magnitudes."""
    return reduce_sum(x.abs(), axes, keep)


def reduce_l2(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Root of the sum of squares."""
    if not x.is_floating_point():
        return reduce_sum(x * x, axes, keep).to(torch.float64).sqrt().to(x.dtype)
    return torch.linalg.vector_norm(x, 2, dim=axes, keepdim=keep)


def reduce_log_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Logarithm of the sum."""
    return reduce_sum(x, axes, keep).log()


def reduce_log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Logarithm of the sum of exponentials."""
    return torch.logsumexp(x, axes, keepdim=keep)


def reduce_sum_square(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Sum of squares."""
    return reduce_sum(x * x, axes, keep)


def arg_extreme(largest: bool) -> Callable[..., Tensor]:
    """ArgMax, or ArgMin."""

    def run(op: Op, x: Tensor) -> Tensor:
        axis, keep = op.attr("axis", 0), bool(op.attr("keepdims", 1))
        extreme = x.amax(axis, keepdim=True) if largest else x.amin(axis, keepdim=True)
        hits = (x == extreme).to(torch.int64)
        size = x.shape[axis]
        if op.attr("select_last_index", 0):
            place = size - 1 - hits.flip(axis).argmax(axis, keepdim=True)
        else:
            place = hits.argmax(axis, keepdim=True)
        return place if keep else place.squeeze(axis)

    return run


def cumulative_sum(op: Op, x: Tensor, axis: Any) -> Tensor:
    """Running sum; `exclusive` leaves the entry itself out, `reverse` runs backwards."""
    along = int(axis.reshape(-1)[0])
    if op.attr("reverse", 0):
        x = x.flip(along)
    y = x.cumsum(along, dtype=x.dtype)
    if op.attr("exclusive", 0):
        y = y - x
    return y.flip(along) if op.attr("reverse", 0) else y


def top_k(op: Op, x: Tensor, k: Any = None) -> tuple[Tensor, Tensor]:
    """Largest (or smallest) entries along an axis and their places, the first of equals first."""
    count = op.attr("k") if k is None else int(k.reshape(-1)[0])
    axis = op.attr("axis", -1)
    # a stable sort: torch.topk promises nothing about the order of equals
    order = torch.argsort(x, dim=axis, descending=bool(op.attr("largest", 1)), stable=True)
    places = order.narrow(axis, 0, count)
    return x.gather(axis, places), places
