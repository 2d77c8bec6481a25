"""Elementwise arithmetic, comparison and logic; ONNX broadcasts as torch does."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from onnx_scsp.retrain.lift.op import DTYPES, Op


def unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator without attributes on one tensor."""

    def run(op: Op, x: Tensor) -> Tensor:
        return function(x)

    return run


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator without attributes on two tensors."""

    def run(op: Op, a: Tensor, b: Tensor) -> Tensor:
        return function(a, b)

    return run


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator that folds any number of tensors."""

    def run(op: Op, *tensors: Tensor) -> Tensor:
        return reduce(function, tensors)

    return run


def div(op: Op, a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def mod(op: Op, a: Tensor, b: Tensor) -> Tensor:
    """`fmod` 1 takes the sign of the dividend, 0 that of the divisor."""
    return torch.fmod(a, b) if op.attr("fmod", 0) else torch.remainder(a, b)


def power(op: Op, base: Tensor, exponent: Tensor) -> Tensor:
    """The result has the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


def mean(op: Op, *tensors: Tensor) -> Tensor:
    """Mean of any number of tensors."""
    return reduce(torch.add, tensors) / len(tensors)


def clip(op: Op, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Bounds are attributes before operator set 11, then operands."""
    if op.opset < 11:
        low, high = op.attr("min"), op.attr("max")
    if low is not None:
        x = torch.maximum(x, low) if isinstance(low, Tensor) else torch.clamp(x, min=_number(low))
    if high is not None:
        x = (
            torch.minimum(x, high)
            if isinstance(high, Tensor)
            else torch.clamp(x, max=_number(high))
        )
    return x


def _number(bound: Any) -> Any:
    return bound if isinstance(bound, int | float) else bound.reshape(-1)[0].item()


def cast(op: Op, x: Tensor) -> Tensor:
    """Change of the element type."""
    if op.attr("to") not in DTYPES:
        raise op.unsupported(f"element type {op.attr('to')}")
    return x.to(DTYPES[op.attr("to")])


def cast_like(op: Op, x: Tensor, like: Tensor) -> Tensor:
    """Change to the element type of another tensor."""
    return x.to(like.dtype)


def bit_shift(op: Op, a: Tensor, b: Tensor) -> Tensor:
    """Shift of unsigned integers."""
    wide, amount = a.to(torch.int64), b.to(torch.int64)
    shifted = wide << amount if op.attr("direction") == "LEFT" else wide >> amount
    return shifted.to(a.dtype)


def is_inf(op: Op, x: Tensor) -> Tensor:
    """Infinities of the signs asked for."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if op.attr("detect_positive", 1):
        found = found | (x == float("inf"))
    if op.attr("detect_negative", 1):
        found = found | (x == float("-inf"))
    return found
