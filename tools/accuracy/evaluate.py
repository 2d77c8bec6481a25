"""Samples of every split, calibration files, and the measuring itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tools.accuracy.catalog import Sources, Task
from tools.accuracy.images import cifar, fashion_split
from tools.accuracy.metrics import share

BATCH = 100
PICTURES = ("cifar", "fashion")


def session(path: Path) -> ort.InferenceSession:
    """Opens a file on one thread of the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _pictures(task: Task, sources: Sources, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if task.family == "cifar":
        return cifar(Path(sources.data), split)
    return fashion_split(Path(sources.fashion), split)


def calibration(task: Task, sources: Sources) -> Path:
    """The file of calibration inputs of a network's family, made where it is missing.

    Labels, for the rivals that want them, are kept in a file beside it.

    Args:
        task: The network.
        sources: The folders.

    Returns:
        An .npz whose one key is the input's name.
    """
    path = Path(sources.cache) / "calib" / f"{task.family}.npz"
    beside = path.with_suffix(".labels.npy")
    if path.exists() and beside.exists():
        return path
    if task.family in PICTURES:
        inputs, labels = _pictures(task, sources, "calib")
    else:
        from tools.accuracy.packages import calibration_inputs

        inputs, labels = calibration_inputs(task, sources)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(beside, labels)
    partial = path.with_name(f"{path.stem}.partial.npz")
    np.savez(partial, **{task.input: inputs})
    partial.replace(path)
    return path


def evaluate(task: Task, sources: Sources, path: Path, split: str) -> dict[str, float]:
    """Runs a file over a split.

    Args:
        task: The network.
        sources: The folders.
        path: The file, dense or pruned.
        split: `tune` or `report`.

    Returns:
        Metric -> percent.
    """
    if task.family not in PICTURES:
        from tools.accuracy.packages import evaluate_package

        return evaluate_package(task, sources, path, split)
    inputs, labels = _pictures(task, sources, split)
    runs = session(path)
    found = [
        runs.run(None, {task.input: inputs[at : at + BATCH]})[0].argmax(1)
        for at in range(0, len(inputs), BATCH)
    ]
    return {"top1": share(np.concatenate(found).tolist(), labels.tolist()), "samples": len(labels)}
