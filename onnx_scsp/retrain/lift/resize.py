"""Resize and Upsample.

Each resized axis is its own linear map from `size` to `new` entries. Entry y of the result looks at

    x = f(y),  f by coordinate_transformation_mode and scale

and takes entries around x with weights w(x - entry): nearest, linear (a triangle) or cubic (Keys'
kernel with a = cubic_coeff_a); with `antialias` and a scale below 1 the kernel is 1 / scale wider.
The plain cases (nearest by an integer factor, linear at the centres of pixels or at aligned
corners) go to torch, the others to an index or to a matrix per axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op, ints, to_tensor
from onnx_scsp.types import AnyArray

_HALF_OF_TORCH = "pytorch_half_pixel"
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(op: Op, x: Tensor, scales: Any = None) -> Tensor:
    """Before Resize: coordinates are divided by the scale, the nearest entry is the one below."""
    factors = op.attr("scales") if scales is None else scales.reshape(-1).tolist()
    return _resized(op, x, factors, None, list(range(x.ndim)), None, ("asymmetric", "floor"))


def resize(op: Op, x: Tensor, second: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """Operator set 10 has (x, scales), later ones (x, roi, scales, sizes)."""
    if op.opset < 11:
        return upsample(op, x, second)
    axes = [axis % x.ndim for axis in op.attr("axes") or range(x.ndim)]
    new = None if sizes is None or sizes.size == 0 else ints(sizes)
    factors = None if scales is None or scales.size == 0 else scales.reshape(-1).tolist()
    if new is not None:
        new, factors = _by_policy(op, x, axes, new)
    roi = None if second is None or second.size == 0 else second.reshape(-1).tolist()
    how = op.attr("coordinate_transformation_mode", "half_pixel")
    rounding = op.attr("nearest_mode", "round_prefer_floor")
    return _resized(op, x, factors, new, axes, roi, (how, rounding))


def _by_policy(
    op: Op, x: Tensor, axes: list[int], new: list[Any]
) -> tuple[list[Any], list[Any] | None]:
    """Sizes and, where the aspect ratio is kept, the common scale."""
    policy = op.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return new, None
    ratios = [size / x.shape[axis] for size, axis in zip(new, axes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(scale * x.shape[axis] + 0.5) for axis in axes], [scale] * len(axes)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One resized axis: its new size, its scale, and the part of it that is looked at."""

    axis: int
    target: int
    scale: float
    bounds: tuple[float, float]


def _resized(
    op: Op,
    x: Tensor,
    factors: list[float] | None,
    new: list[Any] | None,
    axes: list[int],
    roi: list[float] | None,
    rule: tuple[str, str],
) -> Tensor:
    mode, (how, rounding) = op.attr("mode", "nearest"), rule
    plans = _plans(x, factors, new, axes, roi, how)
    direct = _direct(op, x, plans, mode, how, rounding) if plans else x
    if direct is not None:
        return direct
    for plan in plans:
        size = x.shape[plan.axis]
        places = _coordinates(how, plan, size)
        outside = (places < 0) | (places > size - 1)
        if mode == "nearest":
            x = x.index_select(plan.axis, to_tensor(_nearest(places, rounding, size), x.device))
        else:
            x = _apply(x, plan.axis, _matrix(op, mode, places, size, plan.scale))
        if how == "tf_crop_and_resize" and outside.any():
            x = _fill(x, plan.axis, outside, op.attr("extrapolation_value", 0.0))
    return x


def _plans(
    x: Tensor,
    factors: list[float] | None,
    new: list[Any] | None,
    axes: list[int],
    roi: list[float] | None,
    how: str,
) -> list[_Axis]:
    """The axes that change; an axis that stays may be of a size that is not known yet."""
    plans = []
    for place, axis in enumerate(axes):
        size = x.shape[axis]
        scale = None if factors is None else factors[place]
        stays = scale == 1 if new is None else new[place] == size
        if stays and how != "tf_crop_and_resize":
            continue
        target = int(size * (scale or 1)) if new is None else int(new[place])
        bounds = (0.0, 1.0) if roi is None else (roi[place], roi[place + len(axes)])
        plans.append(_Axis(axis, target, target / size if scale is None else scale, bounds))
    return plans


def _direct(
    op: Op, x: Tensor, plans: list[_Axis], mode: str, how: str, rounding: str
) -> Tensor | None:
    """What torch computes alike."""
    rank = x.ndim - 2
    spatial = rank in _LINEAR and all(plan.axis >= 2 for plan in plans)
    if not spatial or not x.is_floating_point() or op.attr("antialias", 0):
        return None
    exact = all(plan.target == plan.scale * x.shape[plan.axis] for plan in plans)
    more = all(plan.target > 1 for plan in plans)
    sizes = list(x.shape[2:])
    for plan in plans:
        sizes[plan.axis - 2] = plan.target
    if mode == "nearest" and how == "asymmetric" and rounding == "floor":
        whole = exact and all(float(plan.scale).is_integer() for plan in plans)
        return F.interpolate(x, size=sizes, mode="nearest") if whole else None
    if mode == "linear" and how == "align_corners" and more:
        return F.interpolate(x, size=sizes, mode=_LINEAR[rank], align_corners=True)
    if mode == "linear" and exact and (how == "half_pixel" or (more and how == _HALF_OF_TORCH)):
        return F.interpolate(x, size=sizes, mode=_LINEAR[rank], align_corners=False)
    return None


def _coordinates(how: str, plan: _Axis, size: int) -> AnyArray:
    """Where each entry of the result lies in the original."""
    target, scale = plan.target, plan.scale
    y = np.arange(target, dtype=np.float64)
    if how == "asymmetric":
        return y / scale
    if how == "align_corners":
        return y * (size - 1) / (target - 1) if target > 1 else np.zeros(target)
    if how == _HALF_OF_TORCH and target <= 1:
        return np.zeros(target)
    if how == "half_pixel_symmetric":
        centre = size / 2
        offset = centre * (1 - target / (scale * size))
        return offset + (y + 0.5) / scale - 0.5
    if how == "tf_crop_and_resize":
        low, high = plan.bounds
        if target > 1:
            return low * (size - 1) + y * (high - low) * (size - 1) / (target - 1)
        return np.full(target, 0.5 * (low + high) * (size - 1))
    if how == "tf_half_pixel_for_nn":
        return (y + 0.5) / scale
    return (y + 0.5) / scale - 0.5


def _nearest(places: AnyArray, rounding: str, size: int) -> AnyArray:
    if rounding == "round_prefer_floor":
        found = np.ceil(places - 0.5)
    elif rounding == "round_prefer_ceil":
        found = np.floor(places + 0.5)
    else:
        found = np.floor(places) if rounding == "floor" else np.ceil(places)
    return np.clip(found, 0, size - 1).astype(np.int64)


def _matrix(op: Op, mode: str, places: AnyArray, size: int, scale: float) -> AnyArray:
    """Weights (new, size) of linear or cubic interpolation."""
    stretch = min(scale, 1.0) if op.attr("antialias", 0) else 1.0
    reach = (2 if mode == "cubic" else 1) / stretch
    a = op.attr("cubic_coeff_a", -0.75)
    matrix = np.zeros((len(places), size))
    for row, place in enumerate(places):
        columns = np.arange(math.floor(place - reach) + 1, math.floor(place + reach) + 1)
        distance = np.abs(columns - place) * stretch
        weights = np.maximum(1 - distance, 0) if mode == "linear" else _keys(distance, a)
        inside = (columns >= 0) & (columns < size)
        if op.attr("exclude_outside", 0):
            weights = weights * inside
        total = weights.sum()
        weights = weights / total if total else weights
        np.add.at(matrix[row], columns.clip(0, size - 1), weights)
    return matrix


def _keys(distance: AnyArray, a: float) -> AnyArray:
    """Keys' cubic convolution kernel."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _apply(x: Tensor, axis: int, matrix: AnyArray) -> Tensor:
    weights = to_tensor(matrix, x.device).to(x.dtype)
    return (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)


def _fill(x: Tensor, axis: int, outside: AnyArray, value: float) -> Tensor:
    view = [1] * x.ndim
    view[axis] = -1
    return x.masked_fill(to_tensor(outside, x.device).reshape(view), value)


def grid_sample(op: Op, x: Tensor, grid: Tensor) -> Tensor:
    """Samples at the places of a grid; modes have had two names each."""
    modes = {"linear": "bilinear", "cubic": "bicubic"}
    mode = op.attr("mode", "bilinear")
    return F.grid_sample(
        x,
        grid,
        mode=modes.get(mode, mode),
        padding_mode=op.attr("padding_mode", "zeros"),
        align_corners=bool(op.attr("align_corners", 0)),
    )
