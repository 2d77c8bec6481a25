"""Training samples in any order: the order is a function of (seed, epoch) alone.

Sample i of update s in epoch e is `permutation(seed, e)[s batch + i]`, whatever the number of
processes or parts that a batch is computed in; a run that was interrupted goes on with the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnx_scsp.calibration import CalibrationData
from onnx_scsp.calibration.data import SampleData
from onnx_scsp.errors import ConfigError
from onnx_scsp.retrain.options import Augment
from onnx_scsp.types import AnyArray, IntArray

IN_MEMORY_BYTES = 1 << 32
"""Samples up to this size are read once and kept."""
_READ = 256
_ORDER, _AUGMENT, _SPLIT = 1, 2, 3
"""What random numbers are for; part of their seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """Samples by number.

    Attributes:
        rows: The samples of this part, as positions in `arrays` (or in the source).
        labels: Class of every sample of the source, or None.
        arrays: All samples in memory, or None where they are read when asked for.
        source: Where they are read then.
    """

    rows: IntArray
    labels: IntArray | None
    arrays: dict[str, AnyArray] | None
    source: SampleData | None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: IntArray) -> tuple[dict[str, AnyArray], IntArray | None]:
        """Some samples, in the order asked for.

        Args:
            places: Numbers 0..len-1.

        Returns:
            Input name -> array (samples, ...), and their labels.

        Raises:
            ConfigError: A sample cannot be read, or their sizes differ.
        """
        rows = self.rows[places]
        labels = None if self.labels is None else self.labels[rows]
        if self.arrays is not None:
            return {name: array[rows] for name, array in self.arrays.items()}, labels
        assert self.source is not None
        order = np.argsort(rows, kind="stable")
        found = _read(self.source, self.source.indices[rows[order]])
        back = np.argsort(order, kind="stable")
        return {name: array[back] for name, array in found.items()}, labels

    def split(self, share: float, seed: int) -> tuple[Feed, Feed]:
        """Parts the samples at random: (to train on, held out).

        Raises:
            ConfigError: A part would be empty.
        """
        count = len(self.rows)
        if share <= 0:
            return self, replace(self, rows=self.rows[:0])
        n_held = max(round(count * share), 1)
        if count - n_held < 1:
            raise ConfigError(f"{count} samples cannot be parted; give more, or --held-out 0")
        order = np.random.default_rng([seed, _SPLIT]).permutation(count)
        train, held = np.sort(order[n_held:]), np.sort(order[:n_held])
        return replace(self, rows=self.rows[train]), replace(self, rows=self.rows[held])

    def batches(self, size: int) -> Iterator[tuple[dict[str, AnyArray], IntArray | None]]:
        """One pass in the order of the source, for measuring."""
        for start in range(0, len(self.rows), size):
            yield self.take(np.arange(start, min(start + size, len(self.rows))))


def open_feed(data: CalibrationData, labels: IntArray | None) -> Feed:
    """Prepares samples for training.

    Args:
        data: The samples; a function's are read once and kept.
        labels: One class per sample, or None.

    Returns:
        The feed.

    Raises:
        ConfigError: Samples cannot be read, differ in size, or lack labels.
    """
    if isinstance(data, SampleData):
        first = _read(data, data.indices[:1])
        per_sample = sum(array.nbytes for array in first.values())
        count = len(data.indices)
        fits = per_sample * count <= IN_MEMORY_BYTES
        arrays = _all_of(data) if fits else None
        feed = Feed(np.arange(count), labels, arrays, None if fits else data)
    else:
        arrays = _all_of(data)
        feed = Feed(np.arange(len(next(iter(arrays.values())))), labels, arrays, None)
    if labels is not None and len(labels) != len(feed):
        raise ConfigError(
            f"{data.where} has {len(feed)} samples, and there are {len(labels)} labels"
        )
    return feed


def _all_of(data: CalibrationData) -> dict[str, AnyArray]:
    parts = list(data.batches(_READ))
    if not parts:
        raise ConfigError(f"{data.where} holds no samples")
    total = sum(array.nbytes for part in parts for array in part.values())
    if total > IN_MEMORY_BYTES:
        raise ConfigError(
            f"{data.where} yields {total >> 30} GiB; give files instead, which are read in parts"
        )
    return _joined(parts, data.where)


def _read(data: SampleData, indices: IntArray) -> dict[str, AnyArray]:
    return _joined(list(data.samples.read(indices)), data.where)


def _joined(parts: list[dict[str, AnyArray]], where: str) -> dict[str, AnyArray]:
    if len({array.shape[1:] for part in parts for array in [next(iter(part.values()))]}) > 1:
        raise ConfigError(f"{where}: samples differ in size; give images one size with --size")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def epoch_order(count: int, seed: int, epoch: int) -> IntArray:
    """The order of samples in one epoch."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def augmented(
    arrays: dict[str, AnyArray], kind: Augment, seed: int, epoch: int, update: int
) -> dict[str, AnyArray]:
    """Flips and shifts the images of a whole batch; other inputs stay.

    Args:
        arrays: Input name -> array (samples, ...); arrays with four axes are images, channels
            first, or last where axis 1 is longer than 4 and the last one is not.
        kind: What to do.
        seed: Of the run.
        epoch: Number of the epoch.
        update: Number of the update in it.

    Returns:
        New arrays where something was done.
    """
    if not kind:
        return arrays
    found = dict(arrays)
    for place, (name, array) in enumerate(arrays.items()):
        if array.ndim == 4:
            rng = np.random.default_rng([seed, _AUGMENT, epoch, update, place])
            found[name] = _augmented(array, kind, rng)
    return found


def _augmented(images: AnyArray, kind: Augment, rng: np.random.Generator) -> AnyArray:
    count = len(images)
    last = images.shape[1] > 4 >= images.shape[3]
    height, width = (1, 2) if last else (2, 3)
    result = images.copy()
    if kind.flip:
        mirrored = rng.random(count) < 0.5
        result[mirrored] = np.flip(result[mirrored], axis=width)
    if kind.crop:
        tall, wide = images.shape[height], images.shape[width]
        margins = [(0, 0)] * 4
        margins[height] = margins[width] = (kind.crop, kind.crop)
        padded = np.pad(result, margins)
        tops, lefts = rng.integers(0, 2 * kind.crop + 1, (2, count))
        for index, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            rows = np.take(padded[index], range(top, top + tall), axis=height - 1)
            result[index] = np.take(rows, range(left, left + wide), axis=width - 1)
    return result
