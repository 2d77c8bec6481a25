"""CIFAR-10: the first 45,000 images train and tune, the last 5,000 report once at the end."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRAINING = 45_000
_SEED = 2026
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def load_images(
    data: Path, cache: Path, part: str, count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Preprocessed images; decoded once and kept.

    Args:
        data: Folder with `cifar10_jpeg_train.npz`.
        cache: Folder to keep them in.
        part: `train` or `report`.
        count: How many training images (a fixed choice); all of `report` count.

    Returns:
        float32 (n, 3, 32, 32) and the labels.
    """
    name = f"{part}-{count}" if part == "train" else part
    file = cache / f"{name}.npz"
    if not file.exists():
        _decode(data, file, _places(part, count))
    with np.load(file) as kept:
        pixels, labels = kept["pixels"], kept["labels"]
    return ((pixels.astype(np.float32) / 255 - _MEAN) / _DEVIATION).astype(np.float32), labels


def _places(part: str, count: int) -> NDArray[np.int64]:
    if part == "report":
        return np.arange(TRAINING, 50_000)
    return np.sort(np.random.default_rng(_SEED).permutation(TRAINING)[:count])


def _decode(data: Path, file: Path, places: NDArray[np.int64]) -> None:
    from PIL import Image

    with np.load(data / "cifar10_jpeg_train.npz") as kept:
        content, offsets, labels = kept["bytes"].tobytes(), kept["offsets"], kept["labels"]
    pixels = np.empty((len(places), 3, 32, 32), np.uint8)
    for row, place in enumerate(places):
        with Image.open(io.BytesIO(content[offsets[place] : offsets[place + 1]])) as image:
            pixels[row] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    unfinished = file.with_name(f".{file.name}")
    with unfinished.open("wb") as stream:
        np.savez(stream, pixels=pixels, labels=labels[places].astype(np.int64))
    unfinished.replace(file)
