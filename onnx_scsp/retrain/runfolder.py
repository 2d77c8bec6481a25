"""The folder of a run: where it stands, and whether it may go on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import ConfigError, OutputError
from onnx_scsp.graph.model import Model
from onnx_scsp.measure.store import machine_for
from onnx_scsp.plan import plan_to_json
from onnx_scsp.retrain.checkpoint import FILE, Checkpoint, read_checkpoint
from onnx_scsp.retrain.feed import Feed
from onnx_scsp.retrain.options import RetrainConfig
from onnx_scsp.types import PrunePlan

DENSE, SOFT, CUT, PLAN = "dense.onnx", "soft.onnx", "cut.onnx", "plan.json"
EVIDENCE = "evidence"
_DIGEST_SAMPLES = 16
_MAY_CHANGE = frozenset({"accelerator", "checkpoint_steps"})
"""Options that do not change what comes out."""


def open_folder(folder: Path, *, resume: bool) -> Checkpoint | None:
    """Makes the folder, or reads where the run in it stopped.

    Args:
        folder: The run's folder.
        resume: Go on with what is there.

    Returns:
        The last checkpoint; None where a run begins.

    Raises:
        ConfigError: There is a run, and nobody asked to go on with it.
        OutputError: The folder cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
    if not resume and (folder / FILE).exists():
        raise ConfigError(
            f"{folder} holds a run; go on with it by --resume, or name another folder with "
            "--run-dir"
        )
    return read_checkpoint(folder) if resume else None


def identity(
    model: Model,
    config: RetrainConfig,
    budget: PruneConfig,
    plan: PrunePlan | None,
    feed: Feed,
    threads: int,
) -> dict[str, Any]:
    """What a run depends on: two runs of the same identity give the same result."""
    options = {k: v for k, v in config.as_dict().items() if k not in _MAY_CHANGE}
    machine = machine_for(budget.align, None, threads)
    return {
        "model": model.sha256,
        "options": options,
        "budget": budget.as_dict() if plan is None else {},
        "plan": "" if plan is None else _hashed(plan_to_json(plan).encode()),
        "data": _digest(feed),
        "table of widths": "" if machine is None else machine.sha256,
    }


def _hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest(feed: Feed) -> str:
    """Hash of the number of samples, some of them, and all labels."""
    total = hashlib.sha256(str(len(feed)).encode())
    places = np.unique(np.linspace(0, len(feed) - 1, _DIGEST_SAMPLES).astype(np.int64))
    arrays, _ = feed.take(places)
    for name in sorted(arrays):
        total.update(name.encode() + arrays[name].tobytes())
    if feed.labels is not None:
        total.update(np.ascontiguousarray(feed.labels).tobytes())
    return total.hexdigest()


def check_identity(start: Checkpoint, wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuses to go on with other options, data or model.

    Raises:
        ConfigError: Something differs; the text names it.
    """
    found = start.state["identity"]
    for part in ("options", "budget"):
        for name in sorted(set(found[part]) | set(wanted[part])):
            before, now = found[part].get(name), wanted[part].get(name)
            if _plain(before) != _plain(now):
                raise ConfigError(
                    f"{folder} holds a run with {name.replace('_', '-')} {before}, not {now}; "
                    "resume with the same options, or name another folder with --run-dir"
                )
    for name in ("model", "plan", "data", "table of widths"):
        if found[name] != wanted[name]:
            raise ConfigError(
                f"{folder} holds a run with another {name}; "
                "name another folder with --run-dir, or leave out --resume and remove it"
            )


def _plain(value: Any) -> Any:
    """Tuples come back from JSON as lists."""
    return list(value) if isinstance(value, tuple) else value
