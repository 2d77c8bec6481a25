"""Calibration data: batches for one model, the same ones at every pass.

Whatever the source, batches are dictionaries input name -> array with the sample axis first, in the
model's element types; only the batch at hand is in memory.

A stream has no known length, so its held-out part is drawn position by position: with a share
h = p/q, stratum j holds the positions k with floor(k h) = j, and one of them, drawn from (seed, j),
is held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from onnx_scsp.calibration.batches import (
    Batch,
    as_arrays,
    digest,
    rebatched,
    require_equal_lengths,
    rows,
    typed,
)
from onnx_scsp.calibration.hooks import failure
from onnx_scsp.errors import ConfigError
from onnx_scsp.inputs import ModelInput, fit_arrays
from onnx_scsp.types import AnyArray, BoolArray, IntArray, read_only

_DIGEST_SAMPLES = 16


class CalibrationData(Protocol):
    """Samples for one model."""

    @property
    def where(self) -> str:
        """What the samples come from, for messages."""
        ...

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the model fixes, or None."""
        ...

    @property
    def n_samples(self) -> int | None:
        """How many samples one pass delivers; None where that is only known after it."""
        ...

    @property
    def n_source(self) -> int | None:
        """How many samples the source has, chosen or not; None for a function."""
        ...

    @property
    def indices(self) -> IntArray | None:
        """Positions of the samples in the source, ascending; None for a function's samples."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """File names of the samples, relative to the folder, with forward slashes; or None."""
        ...

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass over the samples, the same at every call.

        Args:
            size: Samples per batch where the model leaves that open; the last batch may be
                smaller, and a batch ends where the size of the images changes.

        Yields:
            Input name -> array (samples, ...) of the model's type.

        Raises:
            ConfigError: A sample cannot be read or does not fit the model.
        """
        ...

    def fingerprint(self) -> str:
        """SHA-256 over the content of the samples, not over times, paths or batch sizes."""
        ...

    def split(self, held_out: float) -> tuple[CalibrationData, CalibrationData]:
        """Parts the samples, by the seed given on opening.

        Args:
            held_out: Share of the second part, 0 < held_out < 1.

        Returns:
            The data to learn from and the held-out data, without common samples.

        Raises:
            ConfigError: The share is out of range, or a part would be empty.
        """
        ...


class Samples(Protocol):
    """A source of known length that reads any of its samples."""

    def __len__(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """File names, one per sample, or None."""
        ...

    def read(self, indices: IntArray) -> Iterator[Batch]:
        """Some samples, as one batch or more."""
        ...

    def digest(self, indices: IntArray) -> str:
        """Hash of the content of some samples."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArraySamples:
    """Arrays, one per input, in memory or mapped from a file.

    Attributes:
        arrays: Input name -> array, first axis the sample.
        inputs: What the model takes.
        where: Where they come from.
    """

    arrays: Mapping[str, AnyArray]
    inputs: tuple[ModelInput, ...]
    where: str

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def names(self) -> None:
        """Rows of an array have no names."""
        return

    def read(self, indices: IntArray) -> Iterator[Batch]:
        """One batch of copies in the model's types."""
        first, last = int(indices[0]), int(indices[-1])
        is_run = last - first + 1 == len(indices)
        chosen = slice(first, last + 1) if is_run else indices
        found = {name: array[chosen] for name, array in self.arrays.items()}
        yield typed(found, self.inputs, self.where)

    def digest(self, indices: IntArray) -> str:
        """Hash of the samples as the model sees them."""
        parts = _pieces(indices, _DIGEST_SAMPLES)
        return digest(batch for part in parts for batch in self.read(part))


@dataclass(frozen=True, slots=True, eq=False)
class SampleData:
    """Chosen samples of a source of known length (see `CalibrationData`)."""

    samples: Samples
    indices: IntArray
    where: str
    fixed_batch: int | None
    seed: int

    @property
    def n_samples(self) -> int:
        """How many samples one pass delivers."""
        return len(self.indices)

    @property
    def n_source(self) -> int:
        """How many samples the source has."""
        return len(self.samples)

    @property
    def names(self) -> tuple[str, ...] | None:
        """File names of the chosen samples, or None."""
        names = self.samples.names
        return None if names is None else tuple(names[index] for index in self.indices)

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass over the samples."""
        size = _batch_size(size, self.fixed_batch)
        read = (batch for part in _pieces(self.indices, size) for batch in self.samples.read(part))
        return rebatched(read, size, self.fixed_batch, self.where)

    def fingerprint(self) -> str:
        """Hash of the chosen samples' content."""
        return self.samples.digest(self.indices)

    def split(self, held_out: float) -> tuple[SampleData, SampleData]:
        """A seeded random choice of samples is held out."""
        _check_share(held_out)
        count = len(self.indices)
        if count < 2:
            raise ConfigError(f"{self.where}: {count} sample cannot be split; give more")
        n_held = min(max(round(count * held_out), 1), count - 1)
        order = np.random.default_rng(self.seed).permutation(count)
        return self._part(order[n_held:]), self._part(order[:n_held])

    def _part(self, chosen: IntArray) -> SampleData:
        indices = whole_batches(self.indices[np.sort(chosen)], self.fixed_batch, self.where)
        return replace(self, indices=indices)


@dataclass(frozen=True, slots=True)
class Half:
    """One side of a split stream: the held-out positions, or the others."""

    held_out: Fraction
    is_held: bool
    seed: int

    def mask(self, start: int, count: int) -> BoolArray:
        """Which of `count` positions from `start` on belong to this side."""
        held = np.array([self._is_held(k) for k in range(start, start + count)], bool)
        return held if self.is_held else ~held

    def _is_held(self, position: int) -> bool:
        p, q = self.held_out.numerator, self.held_out.denominator
        stratum = position * p // q
        first, end = -(-stratum * q // p), -(-(stratum + 1) * q // p)
        return position == np.random.default_rng((self.seed, stratum)).integers(first, end)


@dataclass(frozen=True, slots=True, eq=False)
class StreamData:
    """Batches from a function that is called again at every pass (see `CalibrationData`)."""

    produce: Callable[[], Iterable[Mapping[str, AnyArray]]]
    inputs: tuple[ModelInput, ...]
    where: str
    fixed_batch: int | None
    seed: int
    limit: int | None = None
    halves: tuple[Half, ...] = ()

    @property
    def n_samples(self) -> None:
        """Unknown before a pass."""
        return

    @property
    def n_source(self) -> None:
        """Unknown before a pass."""
        return

    @property
    def indices(self) -> None:
        """Unknown before a pass."""
        return

    @property
    def names(self) -> None:
        """A function's samples have no names."""
        return

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass; whatever sizes the function yields are cut and joined to `size`."""
        size = _batch_size(size, self.fixed_batch)
        return rebatched(self._chunks(), size, self.fixed_batch, self.where)

    def fingerprint(self) -> str:
        """Hash of the samples as the model sees them; runs through the function once."""
        return digest(self._chunks())

    def split(self, held_out: float) -> tuple[StreamData, StreamData]:
        """Positions are held out evenly along the stream."""
        _check_share(held_out)
        share = Fraction(held_out).limit_denominator(1000)
        if not 0 < share < 1:
            raise ConfigError(f"a held-out share of {held_out:g} is below 0.001 or above 0.999")
        sides = (Half(share, is_held, self.seed) for is_held in (False, True))
        train, held = (replace(self, halves=(*self.halves, side)) for side in sides)
        return train, held

    def _chunks(self) -> Iterator[Batch]:
        """What the function yields, checked, up to the limit, and only this side of each split."""
        positions = [0] * len(self.halves)
        for chunk in self._limited():
            for level, half in enumerate(self.halves):
                count = rows(chunk)
                mask = half.mask(positions[level], count)
                positions[level] += count
                chunk = {name: array[mask] for name, array in chunk.items()}
            if rows(chunk):
                yield chunk

    def _limited(self) -> Iterator[Batch]:
        left = math.inf if self.limit is None else self.limit
        for found in self._produced():
            chunk = self._checked(found)
            if rows(chunk) >= left:
                yield {name: array[: int(left)] for name, array in chunk.items()}
                return
            left -= rows(chunk)
            yield chunk

    def _produced(self) -> Iterator[Any]:
        """The function's own errors, told from ours."""
        try:
            found = iter(self.produce())
        except Exception as error:  # whatever the user's function raises
            raise ConfigError(f"{self.where} fails: {failure(error)}") from error
        while True:
            try:
                item = next(found)
            except StopIteration:
                return
            except Exception as error:
                raise ConfigError(f"{self.where} fails: {failure(error)}") from error
            yield item

    def _checked(self, found: object) -> Batch:
        if not isinstance(found, Mapping):
            raise ConfigError(
                f"{self.where} yields a {type(found).__name__}; "
                "yield dictionaries input name -> array"
            )
        arrays = fit_arrays(as_arrays(found), self.inputs, self.where)
        require_equal_lengths(arrays, self.where)
        return typed(arrays, self.inputs, self.where)


def whole_batches(indices: IntArray, fixed_batch: int | None, where: str) -> IntArray:
    """Drops the samples that do not fill a fixed batch.

    Args:
        indices: Samples.
        fixed_batch: The batch size that the model fixes, or None.
        where: Where the samples come from, for messages.

    Returns:
        The samples that remain, read-only.

    Raises:
        ConfigError: There are fewer samples than one batch.
    """
    if fixed_batch is not None:
        if len(indices) < fixed_batch:
            raise ConfigError(
                f"{where}: {len(indices)} samples do not fill the model's batch of {fixed_batch}"
            )
        indices = indices[: len(indices) // fixed_batch * fixed_batch]
    read_only(indices)
    return indices


def _batch_size(size: int, fixed_batch: int | None) -> int:
    if size < 1:
        raise ConfigError(f"a batch of {size} samples is not positive")
    return fixed_batch or size


def _check_share(held_out: float) -> None:
    if not 0.0 < held_out < 1.0:
        raise ConfigError(f"a held-out share of {held_out:g} is outside (0, 1)")


def _pieces(indices: IntArray, size: int) -> Iterator[IntArray]:
    return (indices[start : start + size] for start in range(0, len(indices), size))
