"""Images made from nothing, for models whose user has none at hand.

The dead leaves model: discs and rectangles of random place, size and colour cover one another, with
a little noise on top. Their edges, flat regions and power spectrum resemble those of photographs
(Lee, Mumford, Huang 2001), which is what the covariances of a trained network's layers depend on;
white noise and smooth noise serve far worse. Radii follow p(r) ~ r^-3.

A model's input range is not in the file. Ranges are candidates that the caller chooses among.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnx_scsp.calibration.batches import Batch
from onnx_scsp.calibration.data import SampleData, whole_batches
from onnx_scsp.inputs import ModelInput
from onnx_scsp.types import FloatArray, IntArray

_LEAVES = 60
_CHANNEL_COUNTS = (1, 3, 4)
SMALLEST_SIDE = 16
"""Images with a shorter side show nothing but single leaves."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """How values of mean 0 and deviation 1 become a model's inputs: clip(scale v + offset).

    Attributes:
        name: What it is called.
        scale: Factor.
        offset: Summand.
        low: Smallest value.
        high: Largest value.
    """

    name: str
    scale: float
    offset: float
    low: float = -np.inf
    high: float = np.inf


RANGES = (
    ValueRange("0 to 1", 0.25, 0.5, 0.0, 1.0),
    ValueRange("-1 to 1", 0.5, 0.0, -1.0, 1.0),
    ValueRange("mean 0, deviation 1", 1.0, 0.0),
    ValueRange("-128 to 127", 64.0, 0.0, -128.0, 127.0),
    ValueRange("0 to 255", 64.0, 128.0, 0.0, 255.0),
)
"""From small to large."""


@dataclass(frozen=True, slots=True)
class SyntheticImages:
    """A source of made images (see `Samples`).

    Attributes:
        input: The model's input.
        shape: Its shape without the batch axis.
        channel_axis: Which axis of `shape` holds the channels.
        count: How many images.
        values: Their range.
        seed: Seed.
    """

    input: ModelInput
    shape: tuple[int, ...]
    channel_axis: int
    count: int
    values: ValueRange
    seed: int

    def __len__(self) -> int:
        return self.count

    @property
    def names(self) -> None:
        """Made images have no names."""
        return

    def read(self, indices: IntArray) -> Iterator[Batch]:
        """One batch, made anew at every pass."""
        channels = self.shape[self.channel_axis]
        sides = [s for axis, s in enumerate(self.shape) if axis != self.channel_axis]
        made = np.stack(
            [
                dead_leaves(channels, sides[0], sides[1], np.random.default_rng([self.seed, index]))
                for index in indices.tolist()
            ]
        )
        values = np.clip(made * self.values.scale + self.values.offset, *self._limits)
        moved = np.moveaxis(values, 1, 1 + self.channel_axis)
        yield {self.input.name: np.ascontiguousarray(moved).astype(self.input.dtype)}

    @property
    def _limits(self) -> tuple[float, float]:
        return self.values.low, self.values.high

    def digest(self, indices: IntArray) -> str:
        """Hash of the recipe, which says all."""
        return hashlib.sha256(f"{self!r} {indices.tolist()}".encode()).hexdigest()


def image_axis(shape: tuple[int, ...]) -> int | None:
    """Channel axis of an image input's shape without its batch axis, None where it is no image."""
    if len(shape) != 3:
        return None
    for axis in (0, 2):
        sides = [size for place, size in enumerate(shape) if place != axis]
        if shape[axis] in _CHANNEL_COUNTS and min(sides) >= SMALLEST_SIDE:
            return axis
    return None


def synthetic_images(
    item: ModelInput, shape: tuple[int, ...], count: int, values: ValueRange, seed: int
) -> SampleData:
    """Calibration data of made images.

    Args:
        item: The model's only input.
        shape: Its concrete shape without the batch axis.
        count: How many images.
        values: Their range.
        seed: Seed.

    Returns:
        The data.
    """
    axis = image_axis(shape)
    assert axis is not None
    fixed = item.sizes[0] or None
    count = max(count, fixed or 1)
    images = SyntheticImages(item, shape, axis, count, values, seed)
    indices = whole_batches(np.arange(count), fixed, "synthetic images")
    return SampleData(images, indices, "synthetic images", fixed, seed)


def dead_leaves(channels: int, height: int, width: int, rng: np.random.Generator) -> FloatArray:
    """One image (channels, height, width), of mean about 0 and deviation about 1."""
    side = min(height, width)
    image = np.zeros((channels, height, width))
    for _ in range(_LEAVES):
        radius = min(0.06 * side * (rng.random() ** -0.5 - 0.9) + 1.0, 0.5 * side)
        middle_y, middle_x = rng.random() * height, rng.random() * width
        colour = 0.45 * rng.standard_normal(channels) + 0.9 * rng.standard_normal()
        is_disc = rng.random() < 0.5
        angle, length = (
            (0.0, 0.0) if is_disc else (rng.random() * np.pi, 2.0 * radius * rng.random())
        )
        reach = math.hypot(radius, length)
        down, across = _around(middle_y, reach, height), _around(middle_x, reach, width)
        y, x = np.ogrid[down, across]
        y, x = y - middle_y, x - middle_x
        if is_disc:
            inside = x**2 + y**2 < radius**2
        else:
            u = x * np.cos(angle) + y * np.sin(angle)
            v = y * np.cos(angle) - x * np.sin(angle)
            inside = (np.abs(u) < radius) & (np.abs(v) < length)
        image[:, down, across][:, inside] = colour[:, None]
    return image + 0.15 * rng.standard_normal(image.shape)


def _around(middle: float, reach: float, size: int) -> slice:
    """Positions along an axis that lie no further than `reach` from the middle, and some more."""
    return slice(max(int(middle - reach) - 1, 0), min(int(middle + reach) + 2, size))
