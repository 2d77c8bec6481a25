"""Resize and Upsample.

Each resized axis is its own linear map from `size` to `new` entries. Entry y of the result looks at

    x = f(y),  f by coordinate_transformation_mode and scale

and takes entries around x with weights w(x - entry): nearest, linear (a triangle) or cubic (Keys'
kernel with a = cubic_coeff_a). With `antialias` the kernel is stretched by 1 / scale when shrinking.
The plain cases (nearest by an integer factor, linear at the centres of pixels or at aligned corners)
go to torch, the others to an index or to a matrix per axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op, ints, to_tensor
from onnx_scsp.types import AnyArray

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(op: Op, x: Tensor, scales: Any = None) -> Tensor:
    """Before Resize: coordinates are divided by the scale, the nearest entry is the one below."""
    factors = op.attr("scales") if scales is None else scales.reshape(-1).tolist()
    legacy = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resized(op, x, factors, None, list(range(x.ndim)), None, legacy)


def resize(
    op: Op, x: Tensor, second: Any = None, scales: Any = None, sizes: Any = None
) -> Tensor:
    """Operator set 10 has (x, scales), later ones (x, roi, scales, sizes)."""
    if op.opset < 11:
        return upsample(op, x, second)
    axes = [axis % x.ndim for axis in op.attr("axes") or range(x.ndim)]
    new = None if sizes is None or sizes.size == 0 else ints(sizes)
    factors = None if scales is None or scales.size == 0 else scales.reshape(-1).tolist()
    if new is not None:
        new, factors = _by_policy(op, x, axes, new)
    roi = None if second is None or second.size == 0 else second.reshape(-1).tolist()
    return _resized(op, x, factors, new, axes, roi, {})


def _by_policy(
    op: Op, x: Tensor, axes: list[int], new: list[Any]
) -> tuple[list[Any], list[Any] | None]:
    """Sizes and, where the aspect ratio is kept, the common scale."""
    policy = op.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return new, None
    ratios = [size / x.shape[axis] for size, axis in zip(new, axes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(math.floor(scale * x.shape[axis] + 0.5)) for axis in axes], [scale] * len(axes)


def _resized(
    op: Op,
    x: Tensor,
    factors: list[float] | None,
    new: list[Any] | None,
    axes: list[int],
    roi: list[float] | None,
    legacy: dict[str, str],
) -> Tensor:
    plain = legacy or {}
    mode = op.attr("mode", "nearest")
    how = plain.get(
        "coordinate_transformation_mode", op.attr("coordinate_transformation_mode", "half_pixel")
    )
    rounding = plain.get("nearest_mode", op.attr("nearest_mode", "round_prefer_floor"))
    plans = []
    for place, axis in enumerate(axes):
        size = x.shape[axis]
        scale = None if factors is None else factors[place]
        target = math.floor(size * scale) if new is None and scale is not None else new[place]  # type: ignore[index]
        if target is size or (isinstance(target, int) and target == size and scale in (None, 1)):
            if how != "tf_crop_and_resize":
                continue
        bounds = (0.0, 1.0) if roi is None else (roi[place], roi[place + len(axes)])
        plans.append((axis, int(target), target / size if scale is None else scale, bounds))
    if not plans:
        return x
    direct = _direct(op, x, plans, mode, how, rounding)
    if direct is not None:
        return direct
    for axis, target, scale, bounds in plans:
        places = _coordinates(how, target, x.shape[axis], scale, bounds)
        outside = (places < 0) | (places > x.shape[axis] - 1)
        if mode == "nearest":
            x = x.index_select(axis, to_tensor(_nearest(places, rounding, x.shape[axis]), x.device))
        else:
            matrix = _matrix(op, mode, places, x.shape[axis], scale)
            x = _apply(x, axis, matrix)
        if how == "tf_crop_and_resize" and outside.any():
            x = _fill(x, axis, outside, op.attr("extrapolation_value", 0.0))
    return x


def _direct(
    op: Op, x: Tensor, plans: list[tuple[int, int, float, Any]], mode: str, how: str, rounding: str
) -> Tensor | None:
    """What torch computes alike."""
    rank = x.ndim - 2
    if rank not in _LINEAR or any(axis < 2 for axis, _, _, _ in plans) or not x.is_floating_point():
        return None
    if op.attr("antialias", 0) or any(not float(n).is_integer() for n in x.shape[2:]):
        return None
    sizes = list(x.shape[2:])
    exact = True
    for axis, target, scale, _ in plans:
        exact = exact and target == scale * sizes[axis - 2]
        sizes[axis - 2] = target
    whole = exact and all(float(scale).is_integer() for _, _, scale, _ in plans)
    if mode == "nearest":
        if whole and how == "asymmetric" and rounding == "floor":
            return F.interpolate(x, size=sizes, mode="nearest")
        return None
    if mode != "linear":
        return None
    more = all(target > 1 for _, target, _, _ in plans)
    if how == "align_corners" and more:
        return F.interpolate(x, size=sizes, mode=_LINEAR[rank], align_corners=True)
    if exact and (how == "half_pixel" or (how == "pytorch_half_pixel" and more)):
        return F.interpolate(x, size=sizes, mode=_LINEAR[rank], align_corners=False)
    return None


def _coordinates(
    how: str, target: int, size: int, scale: float, bounds: tuple[float, float]
) -> AnyArray:
    """Where each entry of the result lies in the original."""
    y = np.arange(target, dtype=np.float64)
    if how == "asymmetric":
        return y / scale
    if how == "align_corners":
        return y * (size - 1) / (target - 1) if target > 1 else np.zeros(target)
    if how == "pytorch_half_pixel" and target <= 1:
        return np.zeros(target)
    if how == "half_pixel_symmetric":
        centre = size / 2
        offset = centre * (1 - target / (scale * size))
        return offset + (y + 0.5) / scale - 0.5
    if how == "tf_crop_and_resize":
        low, high = bounds
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
    if mode == "linear":
        places = places if op.attr("antialias", 0) else np.clip(places, 0, size - 1)
    for row, place in enumerate(places):
        columns = np.arange(math.floor(place - reach) + 1, math.floor(place + reach) + 1)
        distance = np.abs(columns - place) * stretch
        weights = np.maximum(1 - distance, 0) if mode == "linear" else _keys(distance, a)
        inside = (columns >= 0) & (columns < size)
        if op.attr("exclude_outside", 0) or op.attr("antialias", 0) and mode == "linear":
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
