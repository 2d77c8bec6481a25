"""Optimiser, learning rate and moving average.

With update t of T and warm-up of w updates, largest rate r:

    t < w        r (t + 1) / w
    cosine       r (1 + cos(pi (t - w) / (T - w))) / 2
    one-cycle    from r / 25 up to r and down to r / 10^4, both by half a cosine (Smith 2018)
    constant     r
    average      a <- d a + (1 - d) weights, d = min(decay, (1 + t) / (10 + t))
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from onnx_scsp.retrain.options import RetrainConfig

_START, _END = 25.0, 1e4


def rate_at(update: int, total: int, config: RetrainConfig) -> float:
    """Learning rate of one update, from its number alone.

    Args:
        update: 0 .. total - 1.
        total: Updates of the whole run.
        config: Largest rate, warm-up and course.
    """
    largest, warm = config.largest_rate, round(config.warm_up * total)
    if config.rates == "one-cycle":
        warm = max(warm, 1)
        if update < warm:
            low = largest / _START
            return low + (largest - low) * (1 - math.cos(math.pi * (update + 1) / warm)) / 2
        low = largest / _END
        return low + (largest - low) * _falling(update, warm, total)
    if update < warm:
        return largest * (update + 1) / warm
    return largest if config.rates == "constant" else largest * _falling(update, warm, total)


def _falling(update: int, warm: int, total: int) -> float:
    return (1 + math.cos(math.pi * (update - warm) / max(total - warm, 1))) / 2


def make_optimiser(
    parameters: Iterable[nn.Parameter], config: RetrainConfig
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; only tensors of two axes or more decay."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in trained if p.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.largest_rate)
    return torch.optim.SGD(
        groups, lr=config.largest_rate, momentum=config.momentum, nesterov=config.momentum > 0
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


class Average:
    """Exponential moving average of a network's tensors.

    Attributes:
        tensors: Name -> averaged values.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor], number: int) -> None:
        """Takes the tensors after update `number` in; integers are copied."""
        decay = min(self.decay, (1 + number) / (10 + number))
        for name, tensor in tensors.items():
            mean = self.tensors[name]
            if mean.is_floating_point():
                mean.lerp_(tensor.detach(), 1.0 - decay)
            else:
                mean.copy_(tensor)
