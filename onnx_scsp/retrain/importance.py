"""What a unit is worth by gradients, for the criterion `importance`; needs samples.

    t_u        factor on what the readers of unit u read of it: 1 now, 0 once u is gone
    dL/dt_u =  sum over the readers' weights W of  W * dL/dW,  over the entries that read u
    score_u =  mean over batches of (dL/dt_u)^2

    with labels       L = mean cross-entropy: the Taylor score (Molchanov et al., CVPR 2019, whose
                      factors are those of gates behind the filters)
    without labels    L = <e, y> / (deviation of y * sqrt(samples)), e normal: the diagonal of the
                      Gauss-Newton matrix of the outputs, that is how much of the outputs'
                      variance goes to first order when u is silenced (Hutchinson's estimator)

Both are first-order: they do not see what remains once the readers are repaired, or when several
units go together. The readers' weights are those that the cut removes and the masked twin zeroes,
so residual sums, gates and concats need no case of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onnx_scsp.calibration import CalibrationData
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import ConfigError, ModelError, OutputError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import write_bytes
from onnx_scsp.retrain.feed import Feed, open_feed
from onnx_scsp.retrain.lift import Lifted, lift
from onnx_scsp.retrain.members import owners
from onnx_scsp.retrain.npz import npz_bytes
from onnx_scsp.retrain.options import RetrainConfig
from onnx_scsp.retrain.student import as_tensors
from onnx_scsp.retrain.targets import make_objective
from onnx_scsp.types import ChannelGroup, FloatArray, IntArray, Role

_LEAST = 1e-12
_CPU = torch.device("cpu")
Loss = Callable[[Mapping[str, Tensor], IntArray | None], Tensor]


def gradient_importance(
    model: Model,
    data: CalibrationData,
    labels: IntArray | None = None,
    *,
    output_name: str = "",
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int = 64,
    draws: int = 4,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> dict[str, FloatArray]:
    """Scores every unit by gradients.

    Args:
        model: The model.
        data: Its inputs.
        labels: Their classes, or None to score by the outputs alone.
        output_name: The output with the class scores; "" is the first.
        input_shapes: Shapes for inputs with dynamic axes.
        batch: Samples per gradient.
        draws: Random projections of the outputs per batch, where there are no labels.
        seed: Their seed.
        progress: Called with (what, samples done, samples).

    Returns:
        Weight that makes channels -> float64 (channels,), for `Choices(importance=...)` and, as
        `.npz`, for `--importance`. Units whose readers have no trainable weights are left out.

    Raises:
        ConfigError: Samples and labels do not fit, or the outputs are nothing to derive.
        ModelError: The model cannot be lifted, or has nothing to score.
    """
    coupling, lifted = find_coupling(model, input_shapes=input_shapes), lift(model).eval()
    feed = open_feed(data, labels)
    size = batch if lifted.batch.free else lifted.batch.size
    if labels is None:
        losses: Sequence[Loss] = [_Projection(lifted, seed + draw) for draw in range(draws)]
    else:
        losses = [_by_labels(model, lifted, feed, output_name)]
    sums = {group.id: np.zeros(group.n_units) for group in coupling.map.groups}
    steps = 0
    for arrays, classes in feed.batches(size):
        progress("deriving", steps // len(losses) * size, len(feed))
        outputs = lifted.run(as_tensors(arrays, None, _CPU)[0])
        for loss in losses:
            gradients = _gradients(lifted, loss(outputs, classes))
            for group in coupling.map.groups:
                sums[group.id] += np.square(_slopes(group, lifted, gradients))
            steps += 1
    means = {name: total / max(steps, 1) for name, total in sums.items()}
    return _by_weight(coupling, lifted, means)


def check_target(path: str | os.PathLike[str]) -> None:
    """Says before any work is done that scores cannot go there.

    Raises:
        ConfigError: The name does not end in .npz.
        OutputError: Its folder is not there.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ConfigError(f"{target}: scores are written as .npz")
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: {target.parent} is no folder")


def write_importance(scores: Mapping[str, FloatArray], path: str | os.PathLike[str]) -> None:
    """Writes scores as the `.npz` that `--importance` reads, atomically.

    Args:
        scores: Weight -> one score per channel.
        path: Where to.

    Raises:
        ConfigError: The name does not end in .npz.
        OutputError: The file cannot be written.
    """
    check_target(path)
    write_bytes(npz_bytes(scores), path)


def _by_labels(model: Model, lifted: Lifted, feed: Feed, output_name: str) -> Loss:
    """The loss that training on these labels has, on outputs that keep their gradients."""
    config = RetrainConfig(output_name=output_name)
    objective = make_objective(config, model, lifted, feed, None)

    def loss(outputs: Mapping[str, Tensor], labels: IntArray | None) -> Tensor:
        assert labels is not None
        return objective(outputs, None, torch.from_numpy(labels))

    return loss


class _Projection:
    """A random direction of all floating-point outputs, drawn anew at every call."""

    def __init__(self, lifted: Lifted, seed: int) -> None:
        self.names = lifted.output_names
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, outputs: Mapping[str, Tensor], _: IntArray | None) -> Tensor:
        parts = []
        for name in self.names:
            values = outputs[name]
            if not values.is_floating_point() or not values.requires_grad:
                continue
            deviation = values.detach().float().std().clamp_min(_LEAST)
            noise = torch.randn(values.shape, generator=self.random)
            parts.append((noise * values.float()).sum() / deviation / values.shape[0] ** 0.5)
        if not parts:
            raise ConfigError("no output of the model follows its weights by a gradient")
        return torch.stack(parts).sum()


def _gradients(lifted: Lifted, loss: Tensor) -> dict[str, FloatArray]:
    """Trained constant -> gradient of the loss on one batch, whose outputs serve other losses."""
    trained = {n: t for n, t in lifted.constants.items() if t.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), retain_graph=True, allow_unused=True)
    return {
        name: gradient.double().numpy()
        for name, gradient in zip(trained, found, strict=True)
        if gradient is not None
    }


def _slopes(group: ChannelGroup, lifted: Lifted, gradients: Mapping[str, FloatArray]) -> FloatArray:
    """dL/dt of each unit: float64 (units,)."""
    slopes = np.zeros(group.n_units)
    for member in group.members:
        if member.role is not Role.READS or member.tensor not in gradients:
            continue
        weight = lifted.constants[member.tensor].detach().double().numpy()
        products = weight * gradients[member.tensor]
        units = np.broadcast_to(owners(member, products.shape), products.shape)
        mine = units >= 0
        slopes += np.bincount(units[mine], products[mine], minlength=group.n_units)
    return slopes


def _by_weight(
    coupling: Coupling, lifted: Lifted, means: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Hands the units' scores to the channels that make them."""
    found: dict[str, FloatArray] = {}
    for group in coupling.map.groups:
        readers = [m.tensor for m in group.members if m.role is Role.READS]
        if not any(_is_trained(lifted, name) for name in readers):
            continue
        for member in group.members:
            if member.role is not Role.MAKES or member.across >= 0:
                continue
            scores = found.setdefault(member.tensor, np.zeros(member.units.shape[-1]))
            mine = member.units >= 0
            scores[mine] = means[group.id][member.units[mine]]
    if not found:
        raise ModelError("no group of channels has readers whose weights can be derived")
    return found


def _is_trained(lifted: Lifted, name: str) -> bool:
    tensor = lifted.constants.get(name)
    return tensor is not None and tensor.requires_grad
