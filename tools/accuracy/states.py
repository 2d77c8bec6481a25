"""The state of a training after each epoch, so that one that was cut off goes on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def resumed(kept: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> int:
    """Puts back what `keep` wrote, where it did.

    Args:
        kept: The file.
        model: The network, changed in place.
        optimizer: Its optimiser, too.
        schedule: And its learning rates.

    Returns:
        Epochs that are done.
    """
    if not kept.exists():
        return 0
    state = torch.load(kept, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epochs"])


def keep(
    kept: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, epochs: int
) -> None:
    """Writes the state, atomically.

    Args:
        kept: The file.
        model: The network.
        optimizer: Its optimiser.
        schedule: Its learning rates.
        epochs: Epochs that are done.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    partial = kept.with_suffix(".partial")
    torch.save(state | {"schedule": schedule.state_dict(), "epochs": epochs}, partial)
    partial.replace(kept)
