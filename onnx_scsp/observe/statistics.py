"""One pass over calibration inputs: second moments of what every linear layer sees.

For each layer, over sampled output positions,

    gram = sum [r 1] [r 1]^T        r: the inputs that a position sees

over the samples that are not held out, and over all of them the variance of the place where the
outputs land. Where a position sees too many inputs, r are the channels at sampled input positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.session import open_variant, run_session, with_outputs
from onnx_scsp.observe.landing import Landing, landing
from onnx_scsp.observe.layers import Linear, linear_layers
from onnx_scsp.observe.regression import Products
from onnx_scsp.observe.rows import channels_at, draw, draw_inputs, inputs_seen, outputs_at
from onnx_scsp.types import AnyArray, BoolArray, FloatArray

Batch = Mapping[str, AnyArray]
Progress = Callable[[str, int, int], None]

HELD_OUT = 8
"""Every so manieth sample is held out."""
LARGEST_GRAM = 6144
"""Layers that see more inputs per position than this are described channel by channel."""
_ROWS_PER_INPUT = 24
_ROWS_PER_FURTHER_INPUT = 6
"""For inputs beyond `_MANY`: the sums grow with the third power of the inputs as it is."""
_MANY = 1024
_FEWEST_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class LayerStatistics:
    """What one layer sees.

    Attributes:
        layer: The layer.
        landing: Where its outputs land.
        train: Sums over the training samples, without targets.
        variance: Variance of the landing place, summed over the channels.
        by_channel: Whether the sums are over channels, all kernel positions alike.
    """

    layer: Linear
    landing: Landing
    train: Products
    variance: float
    by_channel: bool = False


def length_of(batch: Batch) -> int:
    """How many samples a batch holds."""
    return len(next(iter(batch.values())))


def held_out(first: int, count: int) -> BoolArray:
    """Bool (count,): which of the samples `first`, `first` + 1, ... are held out."""
    return np.asarray(np.arange(first, first + count) % HELD_OUT == HELD_OUT - 1)


def positions_per_sample(inputs: int, samples: int) -> int:
    """How many output positions of every sample a layer with so many inputs needs."""
    further = max(inputs - _MANY, 0)
    enough = _ROWS_PER_INPUT * (inputs - further) + _ROWS_PER_FURTHER_INPUT * further
    wanted = max(_FEWEST_ROWS, enough)
    return max(1, -(-wanted // max(samples, 1)))


def collect(
    coupling: Coupling,
    batches: Iterable[Batch],
    samples: int,
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = lambda _what, _done, _total: None,
) -> dict[int, LayerStatistics]:
    """Runs the model once over the samples.

    Args:
        coupling: The model.
        batches: The samples.
        samples: How many there are (a guess does).
        seed: Seed of the positions.
        threads: Threads of the runtime.
        progress: Called with (what, samples done, samples).

    Returns:
        Node index -> statistics, for every linear layer that sees few enough inputs.
    """
    graph, constants = coupling.walk.graph, coupling.walk.constants
    layers = [x for x in linear_layers(coupling) if x.inputs // x.groups <= LARGEST_GRAM]
    if not layers:
        return {}
    gathered = [_Gathering(x, landing(graph, constants, x), samples, seed) for x in layers]
    wanted = dict.fromkeys(
        name for each in gathered for name in (each.layer.x, each.layer.y, each.landing.value)
    )
    names = [name for name in wanted if name not in graph.inputs]
    proto = with_outputs(coupling.model.proto, names)
    with open_variant(proto, coupling.model, threads=threads, optimise=True) as session:
        done = 0
        for number, batch in enumerate(batches):
            values = {**run_session(session, batch, names), **batch}
            for each in gathered:
                each.add(values, number, done)
            done += length_of(batch)
            progress("observing layers", min(done, samples), samples)
    return {each.layer.node.index: each.result() for each in gathered if each.train.rows}


class _Gathering:
    """Statistics of one layer while they grow."""

    def __init__(self, layer: Linear, place: Landing, samples: int, seed: int) -> None:
        self.layer = layer
        self.landing = place
        self.seed = seed
        width = layer.inputs // layer.groups * layer.taps
        self.by_channel = width > LARGEST_GRAM
        if self.by_channel:
            width = layer.inputs // layer.groups
        self.positions = positions_per_sample(width, samples)
        self.train = Products.zeros(layer.groups, width, 0)
        self._sums = np.zeros((2, layer.outputs))
        self._rows = 0
        self._every = np.ones(layer.inputs, bool)

    def add(self, values: Mapping[str, AnyArray], number: int, first: int) -> None:
        layer, x, y = self.layer, values[self.layer.x], values[self.layer.y]
        if not y.size:
            return
        rng = np.random.default_rng([self.seed, layer.node.index, number])
        sample = draw(layer, x.shape, y.shape, self.positions, rng)
        if self.by_channel:
            place_in = draw_inputs(layer, x.shape, self.positions, rng)
            flat = channels_at(layer, x, place_in)
            rows = flat.reshape(layer.groups, *place_in.shape, -1)
        else:
            rows = inputs_seen(layer, x, sample, self._every)
        rows = rows[:, ~held_out(first, len(sample.position))]
        self.train.add_samples(rows, np.zeros((*rows.shape[:3], 0)))
        place = values[self.landing.value]
        landed = outputs_at(layer, place if place.shape == y.shape else y, sample)
        landed = landed[np.isfinite(landed).all(axis=2)]
        self._rows += len(landed)
        self._sums += np.stack([landed.sum(axis=0), np.square(landed).sum(axis=0)])

    def result(self) -> LayerStatistics:
        mean, square = self._sums / max(self._rows, 1)
        variance = float(np.maximum(square - mean**2, 0.0).sum())
        return LayerStatistics(self.layer, self.landing, self.train, variance, self.by_channel)


def targets_by_group(layer: Linear, values: FloatArray) -> FloatArray:
    """(samples, positions, outputs) -> (groups, samples, positions, outputs per group)."""
    samples, positions, _ = values.shape
    return values.reshape(samples, positions, layer.groups, -1).transpose(2, 0, 1, 3)
