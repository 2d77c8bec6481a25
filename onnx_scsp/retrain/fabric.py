"""Devices, precision and processes: Lightning Fabric, set up from the options and from torchrun."""

from __future__ import annotations

import logging
import os
import warnings

from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.precision import _PRECISION_INPUT_STR

from onnx_scsp.errors import ConfigError
from onnx_scsp.retrain.options import RetrainConfig

_PRECISION: dict[str, _PRECISION_INPUT_STR] = {"32": "32-true", "bf16": "bf16-mixed"}


def make_fabric(config: RetrainConfig) -> Fabric:
    """Joins the processes that `torchrun` started, or runs alone.

    Raises:
        ConfigError: There is no such accelerator, or a batch cannot be parted among processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    check_batch(config, world)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning_fabric")  # advice on other set-ups
        try:
            fabric = Fabric(
                accelerator=config.accelerator,
                devices=local,
                num_nodes=max(world // local, 1),
                strategy="ddp" if world > 1 else "auto",
                precision=_PRECISION[config.precision],
            )
        except (ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"--accelerator {config.accelerator} cannot be used: {text}"
            ) from error
        fabric.launch()
    return fabric


def check_batch(config: RetrainConfig, world: int) -> None:
    """Refuses a batch that processes and parts do not share evenly.

    Raises:
        ConfigError: It is not a multiple of processes times parts.
    """
    parts = world * config.accumulate
    if config.batch % parts:
        raise ConfigError(
            f"--batch {config.batch} is no multiple of {parts} "
            f"({world} processes times --accumulate {config.accumulate})"
        )
