"""What the network is worth at the end of an epoch, on samples it is not trained on.

    top1        share of right classes, where there are labels
    agreement   share of samples that get the original's class, where there are class scores only
    fit         1 - mean squared error / variance of the original's outputs, for anything else

Larger is better for all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from onnx_scsp.retrain.feed import Feed, epoch_order
from onnx_scsp.retrain.lift import Lifted
from onnx_scsp.retrain.losses import are_scores, squeezed
from onnx_scsp.retrain.student import as_tensors

Network = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


RECALIBRATION = 32
"""Batches that running statistics are measured on anew."""


@torch.no_grad()
def recalibrate(lifted: Lifted, feed: Feed, batch: int, seed: int, fabric: Fabric) -> None:
    """Lets BatchNormalization's running statistics follow what has become of the channels.

    A cut changes the mean and the variance of whatever reads it; weights stay as they are. Every
    process goes through the same batches.
    """
    was_training = lifted.training
    lifted.train()
    order = epoch_order(len(feed), seed, 0)
    for number in range(min(RECALIBRATION, len(feed) // batch)):
        arrays, _ = feed.take(order[number * batch : (number + 1) * batch])
        lifted.run(as_tensors(arrays, None, fabric.device)[0])
    lifted.train(was_training)


@dataclass(frozen=True, slots=True, eq=False)
class Gauge:
    """Measures networks on held-out samples, each process a share of the batches.

    Attributes:
        held: The samples.
        output: Which output counts.
        batch: Samples per run.
        fabric: The processes.
        original: The network that answers are compared with where there are no labels.
    """

    held: Feed
    output: str
    batch: int
    fabric: Fabric
    original: Network

    @property
    def name(self) -> str:
        """`top1` with labels; else known only after a run, so `agreement` stands for both."""
        return "top1" if self.held.labels is not None else "agreement"

    @torch.no_grad()
    def __call__(self, network: Network) -> float | None:
        """The metric, None where nothing is held out."""
        if not len(self.held):
            return None
        sums = torch.zeros(4, dtype=torch.float64)
        for number, (arrays, labels) in enumerate(self.held.batches(self.batch)):
            if number % self.fabric.world_size != self.fabric.global_rank:
                continue
            feeds, truth = as_tensors(arrays, labels, self.fabric.device)
            with self.fabric.autocast():
                answer = network(feeds)[self.output].detach()
                wanted = None if truth is not None else self.original(feeds)[self.output]
            sums += _counted(answer.cpu(), truth, wanted).to(torch.float64)
        total = self.fabric.all_reduce(sums, reduce_op="sum")
        assert isinstance(total, Tensor)
        hits, samples, error, spread = total.tolist()
        return hits / samples if samples else 1.0 - error / max(spread, 1e-300)


def _counted(answer: Tensor, truth: Tensor | None, wanted: Tensor | None) -> Tensor:
    """(hits, samples, squared error, squared deviation of the original) of one batch."""
    if truth is not None:
        return _hits(answer, truth.cpu())
    assert wanted is not None
    reference = wanted.cpu()
    if are_scores(reference):
        return _hits(answer, squeezed(reference.float()).argmax(1))
    a, b = answer.double(), reference.double()
    spread = (b - b.mean()).square().sum()
    return torch.stack([a.new_zeros(()), a.new_zeros(()), (a - b).square().sum(), spread])


def _hits(answer: Tensor, classes: Tensor) -> Tensor:
    found = squeezed(answer.float()).argmax(1)
    return torch.tensor([float((found == classes).sum()), float(found.numel()), 0.0, 0.0])
