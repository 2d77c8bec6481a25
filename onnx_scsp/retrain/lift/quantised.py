"""Operators on integers that stand for real numbers, real = (stored - zero point) x scale.

Integers on the way travel as floating-point tensors of whole numbers, so that gradients pass: the
rounding of `steps = real / scale + zero point` has the gradient of a straight line within the
bounds of the type and 0 outside (the straight-through estimator, Bengio et al. 2013). Sums of
products run in double precision, where they are as exact as in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from onnx_scsp.retrain.lift.conv import conv
from onnx_scsp.retrain.lift.op import DTYPES, Op


def quantize_linear(op: Op, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Real numbers to integers, halves to the even neighbour."""
    axis = _axis(op)
    return _coded(op, x, _spread(scale, axis, x.ndim), zero, axis)


def dequantize_linear(op: Op, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Integers to real numbers."""
    return _real(x, scale, zero, _axis(op)).to(scale.dtype)


def _axis(op: Op) -> int:
    if op.attr("block_size", 0):
        raise op.unsupported("a scale per block of entries")
    return int(op.attr("axis", 1))


def _spread(vector: Tensor, axis: int, rank: int) -> Tensor:
    """Scale or zero point in a shape that broadcasts against its tensor."""
    if vector.numel() == 1:
        return vector.reshape(())
    view = [1] * rank
    view[axis] = -1
    return vector.reshape(view)


def _real(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    wide = _shifted(x, zero, axis)
    return wide * _spread(scale.to(wide.dtype), axis, x.ndim)


def _shifted(x: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    wide = x.to(torch.float64)
    return wide if zero is None else wide - _spread(zero.to(torch.float64), axis, x.ndim)


def _coded(op: Op, real: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    low, high = _bounds(op, zero)
    shift = 0.0 if zero is None else _spread(zero.to(real.dtype), axis, real.ndim)
    steps = torch.clamp(real / scale + shift, low, high)
    whole = torch.clamp(torch.round(real / scale) + shift, low, high)
    return (steps + (whole - steps).detach()).to(torch.float32)


def _bounds(op: Op, zero: Tensor | None) -> tuple[int, int]:
    """Of the zero point's type; one that was computed is of 8 bits without a sign."""
    dtype = DTYPES.get(op.attr("output_dtype", 0), torch.uint8)
    if zero is not None and not zero.is_floating_point():
        dtype = zero.dtype
    limits = torch.iinfo(dtype)
    return limits.min, limits.max


def dynamic_quantize_linear(op: Op, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and zero point from the extremes of the whole tensor, 0 among them."""
    low, high = torch.clamp(x.min(), max=0), torch.clamp(x.max(), min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / scale), 0, 255).detach()
    return _coded(op, x, scale, zero), scale, zero


def qlinear_conv(
    op: Op,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolution; the bias counts in steps of x_scale w_scale."""
    wide = None if bias is None else bias.to(torch.float64)
    sums = conv(op, _shifted(x, x_zero), _shifted(weight, w_zero), wide)
    unit = x_scale.to(torch.float64) * w_scale.to(torch.float64)
    return _coded(op, sums * _spread(unit, 1, sums.ndim), y_scale.to(torch.float64), y_zero)


def conv_integer(
    op: Op, x: Tensor, weight: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """Convolution of integers; the sums stay as they are."""
    return conv(op, _shifted(x, x_zero), _shifted(weight, w_zero)).to(torch.float32)


def qlinear_matmul(
    op: Op,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Matrix product; scales may be per row of a and per column of b."""
    product = _real(a, a_scale, a_zero, -2) @ _real(b, b_scale, b_zero, -1)
    return _coded(op, product, y_scale.to(torch.float64), y_zero)


def matmul_integer(
    op: Op, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Matrix product of integers; the sums stay as they are."""
    return (_shifted(a, a_zero, -2) @ _shifted(b, b_zero, -1)).to(torch.float32)


def qlinear_binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A sum or product of integers that stand for real numbers."""

    def run(
        op: Op,
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        real = function(_real(a, a_scale, a_zero), _real(b, b_scale, b_zero))
        return _coded(op, real, y_scale.to(torch.float64), y_zero)

    return run


def qlinear_unary(function: Callable[[Op, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A function of one tensor of integers that stand for real numbers."""

    def run(
        op: Op,
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        real = function(op, _real(x, x_scale, x_zero))
        return _coded(op, real, y_scale.to(torch.float64), y_zero)

    return run


def sigmoid(op: Op, x: Tensor) -> Tensor:
    """Of real numbers."""
    return torch.sigmoid(x)


def global_mean(op: Op, x: Tensor) -> Tensor:
    """Mean over all axes after the second, or before the last with `channels_last`."""
    axes = range(1, x.ndim - 1) if op.attr("channels_last", 0) else range(2, x.ndim)
    return x.mean(tuple(axes), keepdim=True)


def qlinear_concat(op: Op, y_scale: Tensor, y_zero: Tensor, *parts: Any) -> Tensor:
    """Tensors of their own scales, one after the other in a common one."""
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    real = torch.cat([_real(*triple) for triple in triples], dim=op.attr("axis"))
    return _coded(op, real, y_scale.to(torch.float64), y_zero)


def qgemm(
    op: Op,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Product alpha A' B' + C, C in steps of alpha a_scale b_scale; Y is real without y_scale."""
    turned = bool(op.attr("transB", 0))
    left, right = _shifted(a, a_zero), _shifted(b, b_zero, 0 if turned else 1)
    left = left.T if op.attr("transA", 0) else left
    sums = left @ (right.T if turned else right)
    if c is not None:
        sums = sums + c.to(torch.float64)
    real = sums * op.attr("alpha", 1.0) * a_scale.to(torch.float64) * b_scale.to(torch.float64)
    if y_scale is None:
        return real.to(torch.float32)
    return _coded(op, real, y_scale.to(torch.float64), y_zero)
