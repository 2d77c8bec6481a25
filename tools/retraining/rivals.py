"""Torch-Pruning 1.6 with its sparse learning, under the same epochs, batches and learning rates.

Half of the epochs train with the pruner's regulariser, then one cut to the budget (its share of
channels is bisected), then the other half trains the small network. It cannot prune the padded
shortcuts of these networks, so the inner channels of every block are what it may cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional

from onnx_scsp.retrain.feed import augmented, epoch_order
from onnx_scsp.retrain.optimise import make_optimiser, rate_at, set_rate
from onnx_scsp.retrain.options import RetrainConfig, parse_augment
from tools.accuracy.catalog import Task
from tools.accuracy.search import bisect
from tools.accuracy.twin import export, module_of
from tools.modules import macs
from tools.retraining.catalog import TRAIN

REGULARISER = 1e-4
MOST = 0.9
_HELD = 0.1


def sparse_learning(
    job: dict[str, Any], model: Path, images: np.ndarray, labels: np.ndarray, made: Path
) -> list[dict[str, Any]]:
    """Trains sparsely, prunes, trains on, exports.

    Args:
        job: The request.
        model: The network.
        images: Training images.
        labels: Their classes.
        made: Where the exported result goes.

    Returns:
        One record per epoch.
    """
    network = job["network"]
    shape = (1, 3, 32, 32)
    task = Task(network, network, "cifar", str(model), "data", "top1", "image", shape)
    module, ignored = module_of(task)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    config = RetrainConfig(
        method="finetune", epochs=job["setting"]["epochs"], seed=job["seed"], **TRAIN
    )
    order = np.random.default_rng(job["seed"]).permutation(len(images))
    n_held = round(len(images) * _HELD)
    trainer = _Trainer(config, images, labels, np.sort(order[n_held:]), np.sort(order[:n_held]))
    soft = config.epochs // 2
    kind = tp.pruner.BNScalePruner if job["method"] == "tp-bn-scale" else tp.pruner.GroupNormPruner
    importance = (
        tp.importance.BNScaleImportance()
        if job["method"] == "tp-bn-scale"
        else tp.importance.GroupMagnitudeImportance(p=2)
    )

    def pruner_of(target: nn.Module, share: float) -> Any:
        places = {found: name for name, found in module.named_modules()}
        return kind(
            target,
            torch.zeros(1, 3, 32, 32),
            importance=importance,
            reg=REGULARISER,
            pruning_ratio=share,
            max_pruning_ratio=MOST,
            global_pruning=True,
            ignored_layers=[target.get_submodule(places[found]) for found in ignored],
        )

    regulariser = pruner_of(module, 0.5)
    trainer.train(module, range(soft), lambda: regulariser.regularize(module))
    example = (torch.zeros(1, 3, 32, 32),)
    whole = macs(module, example)

    def cut(share: float) -> nn.Module:
        target = copy.deepcopy(module)
        pruner_of(target, share).step()
        return target

    share = bisect(lambda share: macs(cut(share), example) / whole, job["budget"])
    small = cut(share)
    trainer.train(small, range(soft, config.epochs), None)
    for parameter in small.parameters():
        parameter.grad = None
        parameter.requires_grad_(False)
    small.eval()
    export(small, task, made)
    return trainer.records


class _Trainer:
    """The plain loop that both halves share, on the CPU."""

    def __init__(
        self,
        config: RetrainConfig,
        images: np.ndarray,
        labels: np.ndarray,
        train: np.ndarray,
        held: np.ndarray,
    ) -> None:
        self.config, self.images, self.labels = config, images, labels
        self.places, self.held = train, held
        self.records: list[dict[str, Any]] = []

    def train(
        self, network: nn.Module, epochs: range, regularise: Callable[[], object] | None
    ) -> None:
        """Some epochs."""
        config, size = self.config, self.config.batch
        updates = len(self.places) // size
        optimiser = make_optimiser(network.parameters(), config)
        kind = parse_augment(config.augment)
        for epoch in epochs:
            network.train()
            order, total = epoch_order(len(self.places), config.seed, epoch), 0.0
            for update in range(updates):
                number = epoch * updates + update
                set_rate(optimiser, rate_at(number, config.epochs * updates, config))
                rows = self.places[order[update * size : (update + 1) * size]]
                x = augmented({"image": self.images[rows]}, kind, config.seed, epoch, update)
                scores = network(torch.from_numpy(x["image"]))
                loss = functional.cross_entropy(scores, torch.from_numpy(self.labels[rows]))
                optimiser.zero_grad()
                loss.backward()
                if regularise is not None:
                    regularise()
                optimiser.step()
                total += loss.item()
            metric = self._top1(network)
            self.records.append(
                {"epoch": epoch + 1, "loss": total / updates, "metric": metric,
                 "metric_cut": metric if regularise is None else None, "survivors": {}}
            )  # fmt: skip

    @torch.no_grad()
    def _top1(self, network: nn.Module) -> float:
        network.eval()
        hits = 0
        for start in range(0, len(self.held), 256):
            rows = self.held[start : start + 256]
            found = network(torch.from_numpy(self.images[rows])).argmax(1).numpy()
            hits += int((found == self.labels[rows]).sum())
        return hits / len(self.held)
