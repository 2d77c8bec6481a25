"""CIFAR-10 and Fashion-MNIST: which images calibrate, tune and report.

Nothing that reports was ever used to train, calibrate or tune what is compared here (the CIFAR
networks themselves came trained on all 50,000 images, so only losses relative to the dense network
mean anything).
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Inputs = NDArray[np.float32]

CIFAR_REPORT = 45_000  # the images from here on are for reporting
FASHION_TRAINED = 50_000  # the images up to here were trained on, the rest tunes
CALIBRATION = 2_048
TUNE = 5_000
SEED = 2026

_CIFAR_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_CIFAR_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
_FASHION_MEAN, _FASHION_DEVIATION = 0.2860, 0.3530


def split_places(split: str, trained: int, total: int) -> NDArray[np.int64]:
    """Which images of a training set make a split.

    Args:
        split: `calib`, `tune` or `report`.
        trained: Images before this place calibrate, and tune unless there are others to tune on.
        total: Number of images.

    Returns:
        Their places; the three splits share none.
    """
    order = np.random.default_rng(SEED).permutation(trained)
    if split == "calib":
        return np.sort(order[:CALIBRATION])
    if split == "tune":
        return np.sort(order[CALIBRATION : CALIBRATION + TUNE])
    return np.arange(trained, total)


def cifar(data: Path, split: str) -> tuple[Inputs, Labels]:
    """Preprocessed images of one split.

    Args:
        data: Folder with `cifar10_jpeg_train.npz`.
        split: `calib`, `tune` or `report`.

    Returns:
        float32 (n, 3, 32, 32) and the labels.
    """
    from PIL import Image

    with np.load(data / "cifar10_jpeg_train.npz") as kept:
        content, offsets, labels = kept["bytes"].tobytes(), kept["offsets"], kept["labels"]
    places = split_places(split, CIFAR_REPORT, len(labels))
    raw = np.empty((len(places), 3, 32, 32), np.uint8)
    for row, place in enumerate(places):
        with Image.open(io.BytesIO(content[offsets[place] : offsets[place + 1]])) as image:
            raw[row] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    scaled = (raw.astype(np.float32) / 255 - _CIFAR_MEAN) / _CIFAR_DEVIATION
    return scaled.astype(np.float32), labels[places].astype(np.int64)


def fashion(data: Path, part: str) -> tuple[Images, Labels]:
    """The images of Debian's dataset-fashion-mnist.

    Args:
        data: Folder that holds the unpacked package.
        part: `train` or `t10k`.

    Returns:
        uint8 (n, 28, 28) and the labels.
    """
    found = sorted(data.rglob(f"{part}-images-idx3-ubyte.gz"))
    if not found:
        raise FileNotFoundError(f"{data} holds no {part}-images-idx3-ubyte.gz")
    images = gzip.decompress(found[0].read_bytes())
    labels = gzip.decompress((found[0].parent / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )


def normal_fashion(images: Images) -> Inputs:
    """As the network wants them: (n, 1, 28, 28), mean 0, deviation 1."""
    scaled = (images[:, None].astype(np.float32) / 255 - _FASHION_MEAN) / _FASHION_DEVIATION
    return scaled.astype(np.float32)


def fashion_split(data: Path, split: str) -> tuple[Inputs, Labels]:
    """Preprocessed images of one split.

    Args:
        data: Folder that holds the unpacked package.
        split: `calib` (of what was trained on), `tune` (held out of training) or `report` (test).

    Returns:
        float32 (n, 1, 28, 28) and the labels.
    """
    images, labels = fashion(data, "t10k" if split == "report" else "train")
    if split == "report":
        return normal_fashion(images), labels
    if split == "tune":
        images, labels = images[FASHION_TRAINED:], labels[FASHION_TRAINED:]
        return normal_fashion(images[:TUNE]), labels[:TUNE]
    places = split_places("calib", FASHION_TRAINED, len(labels))
    return normal_fashion(images[places]), labels[places]
