"""True classes of calibration samples, from a file."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from onnx_scsp.calibration import CalibrationData
from onnx_scsp.calibration.data import StreamData
from onnx_scsp.errors import ConfigError
from onnx_scsp.types import IntArray


def read_labels(path: str | os.PathLike[str], data: CalibrationData) -> IntArray:
    """Reads the labels of exactly the samples that `data` delivers.

    Args:
        path: `.npy` of shape (n,), or a CSV file: one label per line, or `file,label` for a folder
            of images (paths relative to the folder). A first line without a label is a heading.
            Labels without file names stand in the order of the source.
        data: The samples, perhaps only some of their source's.

    Returns:
        int array (samples,).

    Raises:
        ConfigError: The file cannot be read, holds no whole numbers, or lacks samples.
    """
    file = Path(path)
    named = _read_csv(file) if file.suffix.lower() == ".csv" else [("", n) for n in _read_npy(file)]
    if named and all(name for name, _ in named):
        return _by_name(dict(named), data, file)
    labels = np.array([label for _, label in named], np.int64)
    if isinstance(data, StreamData):
        return labels[: data.limit]
    if data.indices is None:
        return labels
    if len(labels) != data.n_source:
        raise ConfigError(
            f"{file} holds {len(labels)} labels, {data.where} has {data.n_source} samples"
        )
    return labels[data.indices]


def _read_npy(file: Path) -> list[int]:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{file} cannot be read as .npy; give labels as .npy or .csv") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConfigError(f"{file} holds no row of whole numbers, one label per sample")
    return [int(label) for label in array]


def _read_csv(file: Path) -> list[tuple[str, int]]:
    """(file name or '', label) of every line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [(number, line) for number, line in enumerate(csv.reader(stream), 1) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read as CSV") from error
    found = []
    for number, line in lines:
        label = line[-1].strip()
        if label.isdecimal():
            found.append((line[0].strip() if len(line) == 2 else "", int(label)))
        elif number > 1:
            raise ConfigError(f"{file}, line {number}: '{label}' is no label")
    return found


def _by_name(labels: dict[str, int], data: CalibrationData, file: Path) -> IntArray:
    if data.names is None:
        raise ConfigError(f"{file} names files, and {data.where} is no folder of images")
    missing = [name for name in data.names if name not in labels]
    if missing:
        raise ConfigError(f"{file} holds no label for '{missing[0]}'")
    return np.array([labels[name] for name in data.names], np.int64)
