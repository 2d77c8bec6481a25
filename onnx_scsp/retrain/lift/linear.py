"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op


def gemm(op: Op, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Product: alpha A' B' + beta C, A and B transposed where asked for."""
    if op.attr("transA", 0):
        a = a.transpose(0, 1)
    if op.attr("transB", 0):
        b = b.transpose(0, 1)
    alpha, beta = op.attr("alpha", 1.0), op.attr("beta", 1.0)
    if c is None:
        y = a @ b
        return y if alpha == 1 else _scaled(y, alpha)
    if a.is_floating_point() and c.ndim <= 2:
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)
    return _scaled(a @ b, alpha) + _scaled(c, beta)


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x * (factor if x.is_floating_point() else int(factor))


def einsum(op: Op, *operands: Tensor) -> Tensor:
    """Products and sums after an equation."""
    return torch.einsum(op.attr("equation").replace(" ", ""), *operands)


def matmul(op: Op, a: Tensor, b: Tensor) -> Tensor:
    """Matrix product as numpy has it, stacked over leading axes."""
    return torch.matmul(a, b)


def identity(op: Op, x: Any) -> Any:
    """The value itself."""
    return x
