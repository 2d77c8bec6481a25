"""Normalisation.

Running statistics follow ONNX's convention, `running = momentum running + (1 - momentum) batch`;
as in PyTorch, the variance that runs is the unbiased one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.op import DTYPES, Op


def batch_norm(
    op: Op, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Any:
    """Batch statistics in `train()`, where the running ones are updated in place."""
    eps = op.attr("epsilon", 1e-5)
    keep = op.attr("momentum", 0.9)
    if op.opset < 9 and not op.attr("spatial", 1):
        raise op.unsupported("spatial 0")
    if op.attr("training_mode", 0) and not op.training:
        return _asked_for_batch_statistics(x, scale, bias, mean, variance, eps, keep)
    y = F.batch_norm(x, mean, variance, scale, bias, op.training, 1 - keep, eps)
    return (y, mean, variance) if op.wants(1) else y


def _asked_for_batch_statistics(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, keep: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A file that spells `training_mode`: what it computes, without touching the constants."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    found_mean = x.mean(axes)
    found_variance = x.var(axes, correction=0)
    y = F.batch_norm(x, found_mean, found_variance, scale, bias, False, 0.0, eps)
    mean = mean * keep + found_mean * (1 - keep)
    return y, mean, variance * keep + found_variance * (1 - keep)


def instance_norm(op: Op, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Per sample and channel."""
    return _per_group(x, x.shape[1], op.attr("epsilon", 1e-5)) * _on_channels(
        scale, x
    ) + _on_channels(bias, x)


def group_norm(op: Op, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Per sample and group; scale and bias are per group before operator set 21."""
    groups = op.attr("num_groups")
    if op.opset < 21:
        each = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return _per_group(x, groups, op.attr("epsilon", 1e-5)) * _on_channels(scale, x) + _on_channels(
        bias, x
    )


def _per_group(x: Tensor, groups: int, eps: float) -> Tensor:
    flat = x.reshape(x.shape[0], groups, -1)
    centred = flat - flat.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return (centred * torch.rsqrt(variance + eps)).reshape(x.shape)


def _on_channels(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape(-1, *[1] * (x.ndim - 2))


def layer_norm(op: Op, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    """Over all axes from `axis` on; mean and 1 / deviation where they are wanted."""
    axis, eps = op.attr("axis", -1) % x.ndim, op.attr("epsilon", 1e-5)
    shape = list(x.shape[axis:])
    if not op.wants(1) and not op.wants(2) and list(scale.shape) == shape:
        fits = bias is None or list(bias.shape) == shape
        if fits:
            return F.layer_norm(x, shape, scale, bias, eps)
    axes = tuple(range(axis, x.ndim))
    wide = x.to(DTYPES.get(op.attr("stash_type", 1), torch.float32))
    mean = wide.mean(axes, keepdim=True)
    inverse = torch.rsqrt((wide - mean).square().mean(axes, keepdim=True) + eps)
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


def rms_norm(op: Op, x: Tensor, scale: Tensor) -> Tensor:
    """Divided by the root of the mean square over all axes from `axis` on."""
    axes = tuple(range(op.attr("axis", -1) % x.ndim, x.ndim))
    wide = x.to(DTYPES.get(op.attr("stash_type", 1), torch.float32))
    root = torch.rsqrt(wide.square().mean(axes, keepdim=True) + op.attr("epsilon", 1e-5))
    return (wide * root).to(x.dtype) * scale


def local_response_norm(op: Op, x: Tensor) -> Tensor:
    """X / (bias + alpha / size times the squares of the channels around) ** beta."""
    size = op.attr("size")
    before = (size - 1) // 2
    squares = x.square().movedim(1, -1)
    sums = F.pad(squares, (before, size - 1 - before)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    base = op.attr("bias", 1.0) + op.attr("alpha", 1e-4) / size * sums
    return x / base.pow(op.attr("beta", 0.75))


def lp_normalization(op: Op, x: Tensor) -> Tensor:
    """Divided by the p-norm along an axis; 0 where the norm is 0."""
    norm = torch.linalg.vector_norm(x, op.attr("p", 2), dim=op.attr("axis", -1), keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def mean_variance_normalization(op: Op, x: Tensor) -> Tensor:
    """Centred and divided by the deviation over some axes."""
    axes = tuple(op.attr("axes") or (0, 2, 3))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)
