"""Torch-Pruning 1.6: every criterion it has for a module as it is, brought to equal MACs.

The torch module is pruned in one step, the share of channels to prune being bisected; no layer
loses more than nine tenths. The result is exported and measured like everybody's.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

from tools.accuracy.catalog import Method, Task
from tools.accuracy.search import bisect
from tools.accuracy.twin import export, module_of
from tools.modules import macs

MOST = 0.9  # share of a layer's channels that may go
GRADIENTS = 512  # calibration samples that gradients are taken of
SINGLE_GRADIENTS = 128  # the same, where every sample has a gradient of its own
BATCH = 64
SEED = 0


def prune(task: Task, method: Method, budget: float, calib: Path, output: Path) -> dict[str, Any]:
    """Prunes the network's torch twin to the budget and exports it.

    Args:
        task: The network.
        method: Criterion and spread, in its arguments.
        budget: Share of the MACs that may remain.
        calib: Calibration inputs; labels lie beside them.
        output: Where the exported result goes.

    Returns:
        The setting that was found.
    """
    torch.set_num_threads(1)
    key, spread, *more = method.arguments
    model, ignored = module_of(task)
    needs_norm = key == "bn" or "reset" in more
    if needs_norm and not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        raise ValueError("the network has no BatchNormalization left")
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if method.data == "labels":
        _gradients(model, calib, task, key)
    inputs = (torch.zeros(1, *task.shape[1:]),)
    whole = macs(model, inputs)

    def cut(share: float) -> nn.Module:
        return _cut(model, ignored, task, (key, spread), share)

    share = bisect(lambda share: macs(cut(share), inputs) / whole, budget)
    pruned = cut(share)
    _alone(pruned)
    if "reset" in more:
        _reset(pruned, calib, task)
    export(pruned, task, output)
    return {"setting": share}


def _cut(
    model: nn.Module, ignored: list[nn.Module], task: Task, how: tuple[str, str], share: float
) -> nn.Module:
    """A pruned copy."""
    key, spread = how
    places = {module: name for name, module in model.named_modules()}
    copied = copy.deepcopy(model)
    for old, new in zip(model.parameters(), copied.parameters(), strict=True):
        new.grad = None if old.grad is None else old.grad.clone()
    torch.manual_seed(SEED)
    tp.pruner.BasePruner(
        copied,
        torch.zeros(1, *task.shape[1:]),
        importance=_importance(key),
        pruning_ratio=share,
        max_pruning_ratio=MOST,
        global_pruning=spread == "global",
        ignored_layers=[copied.get_submodule(places[module]) for module in ignored],
    ).step()
    return copied


def _importance(key: str) -> Any:
    found = tp.importance
    return {
        "l1": lambda: found.GroupMagnitudeImportance(p=1),
        "l2": lambda: found.GroupMagnitudeImportance(p=2),
        "bn": found.BNScaleImportance,
        "fpgm": found.FPGMImportance,
        "lamp": found.LAMPImportance,
        "random": found.RandomImportance,
        "taylor": found.GroupTaylorImportance,
        "hessian": found.GroupHessianImportance,
    }[key]()


def _gradients(model: nn.Module, calib: Path, task: Task, key: str) -> None:
    """Leaves on the parameters what the criterion expects as their gradient.

    That is the gradient of the loss for Taylor; for Hessian the mean square of the gradients of
    single samples (the library's own accumulator keeps the last sample only).
    """
    each = key == "hessian"
    size, total = (1, SINGLE_GRADIENTS) if each else (BATCH, GRADIENTS)
    with np.load(calib) as kept:
        images = torch.from_numpy(kept[task.input][:total])
    labels = torch.from_numpy(np.load(calib.with_suffix(".labels.npy"))[:total])
    squares = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
    model.eval()
    model.zero_grad()
    for at in range(0, len(images), size):
        scores = model(images[at : at + size])
        given = labels[at : at + size]
        if bool((scores >= 0).all()):  # a Softmax closes the network
            loss = F.nll_loss(scores.clamp_min(1e-12).log(), given)
        else:
            loss = F.cross_entropy(scores, given)
        loss.backward()
        if each:
            for parameter, square in squares.items():
                if parameter.grad is not None:
                    square += parameter.grad.pow(2) / len(images)
            model.zero_grad()
    if each:
        for parameter, square in squares.items():
            parameter.grad = square


def _reset(model: nn.Module, calib: Path, task: Task) -> None:
    """Takes normalisation statistics anew, as means over all calibration inputs."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with np.load(calib) as kept:
        images = torch.from_numpy(kept[task.input])
    with torch.no_grad():
        for at in range(0, len(images), BATCH):
            model(images[at : at + BATCH])
    model.eval()


def _alone(model: nn.Module) -> None:
    """Drops gradients before the export."""
    for parameter in model.parameters():
        parameter.grad = None
        parameter.requires_grad_(False)
