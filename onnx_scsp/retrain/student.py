"""The network in training, as PyTorch and Fabric see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from onnx_scsp.errors import ConfigError
from onnx_scsp.retrain.lift import Lifted
from onnx_scsp.retrain.losses import Objective
from onnx_scsp.retrain.soften import Softener
from onnx_scsp.types import AnyArray, IntArray

RUNNING = "running:"


class Student(nn.Module):
    """A lifted network that returns its outputs, and chosen activations, by name."""

    def __init__(self, lifted: Lifted, taps: Sequence[str] = ()) -> None:
        super().__init__()
        self.lifted = lifted
        self.taps = tuple(taps)

    def forward(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input name -> tensor to output name -> tensor."""
        return dict(self.lifted.run(feeds, taps=self.taps))


def floating(lifted: Lifted) -> dict[str, Tensor]:
    """Everything that training may change: parameters and statistics, by name.

    Names are those of ONNX; statistics that nodes share in the file and not in training come under
    the names that the nodes read them by, with `RUNNING` in front.
    """
    found = dict(lifted.constants) | {RUNNING + n: t for n, t in lifted.running.items()}
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}


@contextmanager
def borrowed(lifted: Lifted, values: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Runs with other values (those of a moving average) and puts the network's own back."""
    if values is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in floating(lifted).items()}
    load_values(lifted, values)
    try:
        yield
    finally:
        load_values(lifted, own)


@torch.no_grad()
def load_values(lifted: Lifted, values: Mapping[str, Tensor]) -> None:
    """Overwrites some of `floating`, in place."""
    own = floating(lifted)
    for name, value in values.items():
        own[name].copy_(value)


@contextmanager
def silenced(lifted: Lifted, mask: Softener) -> Iterator[None]:
    """Runs as the cut network will, and puts weights and statistics back."""
    own = {name: tensor.detach().clone() for name, tensor in floating(lifted).items()}
    mask.apply(lifted.constants, 0.0)
    try:
        yield
    finally:
        load_values(lifted, own)


def freeze_unreached(
    student: Student,
    objective: Objective,
    feeds: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor] | None,
    labels: Tensor | None,
) -> None:
    """Takes the parameters that the loss does not depend on out of training.

    Raises:
        ConfigError: The loss depends on none.
    """
    student.eval()
    parameters = [p for p in student.parameters() if p.requires_grad]
    loss = objective(student(feeds), teacher, labels)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.requires_grad_(gradient is not None)
    if all(gradient is None for gradient in found):
        raise ConfigError(
            "the loss depends on no weight of the network; check --output-name and --loss"
        )


def as_tensors(
    arrays: Mapping[str, AnyArray], labels: IntArray | None, device: torch.device
) -> tuple[dict[str, Tensor], Tensor | None]:
    """A batch on the device; images with their channels innermost, as convolutions are fastest."""
    feeds = {name: _laid_out(torch.from_numpy(array).to(device)) for name, array in arrays.items()}
    return feeds, None if labels is None else torch.from_numpy(labels).to(device)


def _laid_out(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
