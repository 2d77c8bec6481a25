"""Pooling.

torch takes the same padding at both ends of an axis; anything else is padded by hand: with -inf for
maxima, with zeros beside a count of the entries that a mean is over.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.conv import pad_ends, window_pads, windows
from onnx_scsp.retrain.lift.op import Op

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def global_average_pool(op: Op, x: Tensor) -> Tensor:
    """Mean over all axes after the second."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(op: Op, x: Tensor) -> Tensor:
    """Maximum over all axes after the second."""
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_lp_pool(op: Op, x: Tensor) -> Tensor:
    """p-norm over all axes after the second."""
    return torch.linalg.vector_norm(x, op.attr("p", 2), dim=tuple(range(2, x.ndim)), keepdim=True)


def max_pool(op: Op, x: Tensor) -> Any:
    """Maxima of windows, and where they lie in the whole tensor if that is wanted."""
    kernel = list(op.attr("kernel_shape"))
    rank = len(kernel)
    if rank not in _MAX:
        raise op.unsupported(f"pooling over {rank} axes")
    if op.attr("storage_order", 0) and op.wants(1):
        raise op.unsupported("storage_order 1")
    strides, dilations = windows(op, rank)
    sizes = list(x.shape[2:])
    begin, end = window_pads(op, sizes, kernel, strides, dilations)
    extra = _ceil_extra(op, sizes, kernel, strides, dilations, begin, end)
    floating = x if x.is_floating_point() else x.to(torch.float32)
    end = [e + more for e, more in zip(end, extra, strict=True)]
    half = all(2 * b <= k for b, k in zip(begin, kernel, strict=True))
    if begin != end or not half or max(dilations) > 1:
        floating = pad_ends(floating, begin, end, float("-inf"))
        shift, inside = begin, [0] * rank
    else:
        shift, inside = [0] * rank, begin
    if not op.wants(1):
        return _MAX[rank](floating, kernel, strides, inside, dilations).to(x.dtype)
    found, places = _MAX[rank](floating, kernel, strides, inside, dilations, return_indices=True)
    return found.to(x.dtype), _flat_places(places, x.shape, list(floating.shape[2:]), shift)


def _flat_places(places: Tensor, shape: Any, padded: list[int], shift: list[int]) -> Tensor:
    """Places within the padded axes -> places within the whole tensor."""
    flat, rest, step = torch.zeros_like(places), places, 1
    for axis in reversed(range(len(padded))):
        flat = flat + (rest % padded[axis] - shift[axis]) * step
        rest = torch.div(rest, padded[axis], rounding_mode="floor")
        step *= shape[axis + 2]
    planes = torch.arange(shape[0] * shape[1], device=places.device) * step
    return flat + planes.reshape(shape[0], shape[1], *[1] * len(padded))


def max_unpool(op: Op, x: Tensor, places: Tensor, sizes: Any = None) -> Tensor:
    """Puts values where they were before pooling; the rest is 0."""
    kernel = list(op.attr("kernel_shape"))
    rank = len(kernel)
    strides, _ = windows(op, rank)
    pads = list(op.attr("pads") or [0] * (2 * rank))
    smallest = [
        (size - 1) * stride - pads[axis] - pads[axis + rank] + kernel[axis]
        for axis, (size, stride) in enumerate(zip(x.shape[2:], strides, strict=True))
    ]
    planes = x.shape[0] * x.shape[1]
    within = 1
    for size in smallest:
        within *= size
    flat = torch.zeros(planes * within, dtype=x.dtype, device=x.device)
    flat = flat.scatter(0, places.reshape(-1), x.reshape(-1))
    y = flat.reshape(x.shape[0], x.shape[1], *smallest)
    if sizes is None:
        return y
    wanted = [int(size) for size in sizes.reshape(-1)][2:]
    if wanted == smallest:
        return y
    # the places were counted in a tensor of the size that is given
    large = torch.zeros(_product([*x.shape[:2], *wanted]), dtype=x.dtype, device=x.device)
    large = large.scatter(0, places.reshape(-1), x.reshape(-1))
    return large.reshape(*x.shape[:2], *wanted)


def _product(sizes: list[Any]) -> Any:
    total = 1
    for size in sizes:
        total = total * size
    return total


def average_pool(op: Op, x: Tensor) -> Tensor:
    """Means of windows, over the entries inside or over the padding as well."""
    kernel = list(op.attr("kernel_shape"))
    rank = len(kernel)
    if rank not in _MEAN:
        raise op.unsupported(f"pooling over {rank} axes")
    strides, dilations = windows(op, rank)
    sizes, counted = list(x.shape[2:]), bool(op.attr("count_include_pad", 0))
    begin, end = window_pads(op, sizes, kernel, strides, dilations)
    extra = _ceil_extra(op, sizes, kernel, strides, dilations, begin, end)
    half = all(2 * b <= k for b, k in zip(begin, kernel, strict=True))
    if begin == end and half and not any(extra) and max(dilations) == 1:
        return _MEAN[rank](x, kernel, strides, begin, False, counted)
    ones = torch.ones((1, 1, *sizes), dtype=x.dtype, device=x.device)
    last = [e + more for e, more in zip(end, extra, strict=True)]
    if counted:
        ones = pad_ends(pad_ends(ones, begin, end, 1.0), [0] * rank, extra, 0.0)
    else:
        ones = pad_ends(ones, begin, last, 0.0)
    total = _sums(pad_ends(x, begin, last, 0.0), kernel, strides, dilations)
    return total / _sums(ones, kernel, strides, dilations)


def _sums(x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> Tensor:
    """Sums of windows, one axis after the other."""
    for axis in range(len(kernel)):
        x = _windows_of(x, axis + 2, kernel[axis], strides[axis], dilations[axis]).sum(-1)
    return x


def _windows_of(x: Tensor, axis: int, window: int, stride: int, dilation: int) -> Tensor:
    """Windows along one axis, their entries on a new last axis."""
    return x.unfold(axis, (window - 1) * dilation + 1, stride)[..., ::dilation]


def lp_pool(op: Op, x: Tensor) -> Tensor:
    """p-norms of windows."""
    kernel = list(op.attr("kernel_shape"))
    rank, p = len(kernel), op.attr("p", 2)
    strides, dilations = windows(op, rank)
    sizes = list(x.shape[2:])
    begin, end = window_pads(op, sizes, kernel, strides, dilations)
    extra = _ceil_extra(op, sizes, kernel, strides, dilations, begin, end)
    end = [e + more for e, more in zip(end, extra, strict=True)]
    powers = pad_ends(x.abs().pow(p), begin, end, 0.0)
    return _sums(powers, kernel, strides, dilations).pow(1.0 / p)


def _ceil_extra(
    op: Op,
    sizes: list[Any],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    begin: list[Any],
    end: list[Any],
) -> list[Any]:
    """What `ceil_mode` reads past the padding; no window may start there."""
    if not op.attr("ceil_mode", 0):
        return [0] * len(kernel)
    extra = []
    for axis, size in enumerate(sizes):
        window = (kernel[axis] - 1) * dilations[axis] + 1
        padded = size + begin[axis] + end[axis]
        steps = -(-(padded - window) // strides[axis]) + 1
        if (steps - 1) * strides[axis] >= size + begin[axis]:
            steps -= 1
        extra.append(max((steps - 1) * strides[axis] + window - padded, 0))
    return extra
