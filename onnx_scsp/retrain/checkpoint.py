"""Checkpoints: one safetensors file, replaced atomically; no pickle.

The header holds one JSON document (place in the run, records so far, the plan of the epoch); the
tensors are those of the network, of the optimiser and of the moving average. Orders, augmentation
and per-update seeds are functions of the place, so the place is all the random state there is.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onnx_scsp.errors import ConfigError, OutputError

FILE = "checkpoint.safetensors"
SCHEMA = 1
_KEY = "onnx_scsp_retrain"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A run at rest.

    Attributes:
        state: JSON-ready: schema, options, place, records.
        tensors: `net.*`, `opt.*`, `ema.*`, `best.*`.
    """

    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under one prefix, without it."""
        start = f"{prefix}."
        return {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Replaces the checkpoint of a folder; a kill at any moment leaves the old or the new one.

    Raises:
        OutputError: The folder cannot be written.
    """
    text = json.dumps({"schema": SCHEMA, **checkpoint.state})
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in checkpoint.tensors.items()}
    try:
        handle, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)
        os.close(handle)
        try:
            save_file(tensors, name, metadata={_KEY: text})
            with Path(name).open("rb") as stream:
                os.fsync(stream.fileno())
            Path(name).replace(folder / FILE)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a folder, None where there is none.

    Raises:
        ConfigError: The file is damaged or of another version.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {})[_KEY]
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        state = json.loads(text)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{file} is no checkpoint of retraining; remove it to start anew"
        ) from error
    if state.get("schema") != SCHEMA:
        raise ConfigError(f"{file} was written by another version; remove it to start anew")
    return Checkpoint(state, tensors)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as `opt.<parameter>.<name>`."""
    found = {}
    for index, entries in optimiser.state_dict()["state"].items():
        for name, value in entries.items():
            if value is not None:
                found[f"opt.{index}.{name}"] = torch.as_tensor(value)
    return found


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimiser_tensors` took (names without `opt.`)."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
