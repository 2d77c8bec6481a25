"""One run, in a process of its own: trains, writes the network, measures it in onnxruntime."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onnx_scsp
from onnx_scsp.calibration import open_calibration
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.evaluate import Predictor, top1
from onnx_scsp.retrain import RetrainConfig, soft_retrain
from tools.retraining.catalog import TRAIN, UNLABELLED
from tools.retraining.images import load_images


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains one network.

    Args:
        job: Entry, network, budget, seed, setting, folders.

    Returns:
        Figures: share of the MACs, seconds, records per epoch.
    """
    torch.set_num_threads(job["threads"])
    data, cache, made = Path(job["data"]), Path(job["cache"]), Path(job["made"])
    model = Path(job["model"])
    images, labels = load_images(data, cache, "train", job["setting"]["images"])
    start = time.perf_counter()
    if job["entry"]["tool"] == "torch-pruning":
        from tools.retraining.rivals import sparse_learning

        records = sparse_learning(job, model, images, labels, made)
    else:
        records = _ours(job, model, images, labels, made)
    coupled = find_coupling(onnx_scsp.load(made))
    whole = find_coupling(onnx_scsp.load(model))
    return {
        "macs_left": coupled.macs / whole.macs,
        "params_left": coupled.map.params / whole.map.params,
        "seconds": round(time.perf_counter() - start, 1),
        "epochs": records,
        "device": job["accelerator"],
        "precision": job["precision"],
    }


def _ours(
    job: dict[str, Any], model: Path, images: np.ndarray, labels: np.ndarray, made: Path
) -> list[dict[str, Any]]:
    entry, setting = job["entry"], job["setting"]
    loaded = onnx_scsp.load(model)
    unlabelled = entry["name"] in UNLABELLED
    config = RetrainConfig(
        epochs=setting["epochs"],
        seed=job["seed"],
        accelerator=job["accelerator"],
        checkpoint_steps=50,
        precision=job["precision"],
        **{**TRAIN, **entry["train"]},
    )
    budget = PruneConfig(value=job["budget"], seed=job["seed"], **entry["cut"])
    folder = made.with_name(f"{made.name}.run")
    result = soft_retrain(
        model,
        made,
        open_calibration(images, loaded),
        config,
        budget=budget,
        labels=None if unlabelled else labels,
        run_dir=folder,
        resume=True,
    )
    assert result is not None
    shutil.rmtree(folder, ignore_errors=True)
    return [dict(record) for record in result.records]


def measure(model: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 of a network in onnxruntime."""
    data = open_calibration(images, onnx_scsp.load(model))
    return float(top1(Predictor(model, threads=2), data, labels))


if __name__ == "__main__":
    request, answer = Path(sys.argv[1]), Path(sys.argv[2])
    found = run(json.loads(request.read_text()))
    answer.write_text(json.dumps(found))
