"""Activations and softmax."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def leaky_relu(op: Op, x: Tensor) -> Tensor:
    """max(x, 0) + alpha min(x, 0)."""
    return F.leaky_relu(x, op.attr("alpha", 0.01))


def prelu(op: Op, x: Tensor, slope: Tensor) -> Tensor:
    """max(x, 0) + slope min(x, 0), the slope broadcast to x."""
    return torch.clamp(x, min=0) + slope * torch.clamp(x, max=0)


def elu(op: Op, x: Tensor) -> Tensor:
    """Exponential linear unit: x where positive, else alpha (exp(x) - 1)."""
    return F.elu(x, op.attr("alpha", 1.0))


def celu(op: Op, x: Tensor) -> Tensor:
    """The same with exp(x / alpha)."""
    return F.celu(x, op.attr("alpha", 1.0))


def selu(op: Op, x: Tensor) -> Tensor:
    """Scaled exponential linear unit: gamma times Elu."""
    alpha, gamma = op.attr("alpha", _SELU_ALPHA), op.attr("gamma", _SELU_GAMMA)
    return gamma * F.elu(x, alpha)


def hard_sigmoid(op: Op, x: Tensor) -> Tensor:
    """A line, alpha x + beta, within 0 and 1."""
    return torch.clamp(op.attr("alpha", 0.2) * x + op.attr("beta", 0.5), 0, 1)


def hard_swish(op: Op, x: Tensor) -> Tensor:
    """Input times its hard sigmoid with alpha 1/6 and beta 1/2."""
    return F.hardswish(x)


def thresholded_relu(op: Op, x: Tensor) -> Tensor:
    """The input where it is above alpha, else 0."""
    return torch.where(x > op.attr("alpha", 1.0), x, torch.zeros_like(x))


def shrink(op: Op, x: Tensor) -> Tensor:
    """Pulls values beyond +-lambd towards 0 by the bias; the rest is 0."""
    bound, bias = op.attr("lambd", 0.5), op.attr("bias", 0.0)
    zero = torch.zeros_like(x)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, zero))


def gelu(op: Op, x: Tensor) -> Tensor:
    """Input times the normal distribution function, or its tanh approximation."""
    return F.gelu(x, approximate=op.attr("approximate", "none"))


def swish(op: Op, x: Tensor) -> Tensor:
    """Sigmoid-weighted: x sigmoid(alpha x)."""
    return x * torch.sigmoid(op.attr("alpha", 1.0) * x)


def quick_gelu(op: Op, x: Tensor) -> Tensor:
    """The same, of onnxruntime's own operator set."""
    return x * torch.sigmoid(op.attr("alpha", 1.702) * x)


def softmax(op: Op, x: Tensor) -> Tensor:
    """Along one axis; before operator set 13 over all axes from `axis` on."""
    return _along(op, x, F.softmax)


def log_softmax(op: Op, x: Tensor) -> Tensor:
    """Logarithm of the softmax."""
    return _along(op, x, F.log_softmax)


def hardmax(op: Op, x: Tensor) -> Tensor:
    """1 at the first maximum, else 0."""
    return _along(op, x, _first_maximum)


def _along(op: Op, x: Tensor, function: Any) -> Tensor:
    if op.opset >= 13:
        return function(x, dim=op.attr("axis", -1))
    axis = op.attr("axis", 1) % max(x.ndim, 1)
    return function(x.flatten(axis) if axis < x.ndim else x, dim=axis).reshape(x.shape)


def _first_maximum(x: Tensor, dim: int) -> Tensor:
    found = torch.zeros_like(x)
    return found.scatter(dim, x.argmax(dim, keepdim=True), 1)


def dropout(op: Op, x: Tensor, ratio: Any = None, training_mode: Any = None) -> Any:
    """Active in `train()` alone: a stored `training_mode` is an exporter's accident."""
    if op.opset < 12:
        share = op.attr("ratio", 0.5)
    else:
        share = 0.5 if ratio is None else float(ratio.reshape(-1)[0])
    if not op.training or share == 0:
        return x, torch.ones_like(x, dtype=torch.bool)
    kept = torch.rand_like(x) >= share
    return torch.where(kept, x / (1 - share), torch.zeros_like(x)), kept
