"""Bringing means and deviations back to what they were, where a cut has moved them.

In graph order, for every layer behind a cut, with outputs y of mean m and deviation s in the
original network, m' and s' in the network as cut (and mended so far),

    a = s / s'      c = m - a m'      y' <- a y' + c

channel by channel, over all positions and samples. Where a normalisation of its own follows, its
statistics move instead, to the same effect:

    mean <- (mean - c) / a      variance + eps <- (variance + eps) / a^2

On the inputs that a network was trained on this is what estimating them anew gives; on others,
synthetic ones say, only what the cut has moved counts. (BatchNormalization re-estimated; REPAIR,
Jordan et al., arXiv 2211.08403.) A layer keeps its values where held-out samples do not agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np

from onnx_scsp.compensate.segments import Segment, Shelf
from onnx_scsp.compensate.sweep import (
    SHELF_BYTES,
    LayerFit,
    Reconstruction,
    Sweep,
    layers_behind,
)
from onnx_scsp.couple import Coupling
from onnx_scsp.observe.layers import Linear
from onnx_scsp.observe.statistics import Batch, Progress, held_out
from onnx_scsp.observe.weights import WorkingCopy
from onnx_scsp.surgery.cut import kept_units, masked_readers, takeovers
from onnx_scsp.types import AnyArray, BoolArray, FloatArray, PrunePlan

_LARGEST_STRETCH = 10.0
_FAINT = 1e-3
"""A deviation that has shrunk to less than this share of what it was is not stretched."""
_NOTHING = 1e-12
"""A variance below this share of the squared mean is rounding."""


def match_moments(
    coupling: Coupling,
    plan: PrunePlan,
    batches: Iterable[Batch],
    samples: int,
    *,
    seed: int = 0,
    threads: int = 1,
    shelf_bytes: int = SHELF_BYTES,
    progress: Progress = lambda _what, _done, _total: None,
) -> Reconstruction:
    """Matches the moments of every layer behind a cut, in one sweep through the graph.

    Args:
        coupling: The model.
        plan: The plan, with what survivors take over.
        batches: Sample inputs.
        samples: How many there are.
        seed: Not used: every position counts.
        threads: Threads of the runtime.
        shelf_bytes: How many bytes of activations, of each network, stay in memory.
        progress: Called with (what, layers done, layers).

    Returns:
        The new values; how far the moments were off on held-out samples, and are.
    """
    keep = kept_units(coupling, plan)
    readers = masked_readers(coupling, keep, takeovers(coupling, plan))
    with ExitStack() as stack:
        shelves = [stack.enter_context(Shelf(shelf_bytes)) for _ in range(2)]
        sweep = _Matching(coupling, keep, readers, samples, seed, threads, shelves)
        layers = [layer for layer in layers_behind(coupling, keep) if layer.bias]
        return sweep.run(layers, batches, progress)


class _Matching(Sweep):
    """Stretches and shifts layer after layer, in the cut network and in a copy that is whole."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._whole = WorkingCopy(self.coupling.model, self.coupling.walk.constants)

    def weights(self) -> dict[str, AnyArray]:
        """What was stretched, as if nothing had been cut or merged: that comes next."""
        return dict(self._whole.changed)

    def mend(self, layer: Linear, segment: Segment) -> None:
        """Runs both networks through the segment for the layer's outputs."""
        old = self.runner(segment, self.coupling.model.proto, layer.y)
        new = self.runner(segment, self.copy.proto, layer.y)
        moments = _Moments(layer.outputs)
        first = 0
        for number in range(len(self.before)):
            made = old(self.before.get(number, segment.inputs))
            found = new(self.now.get(number, segment.inputs))
            y = made[layer.y]
            count = y.shape[0] if y.ndim > 1 else 1
            moments.add(layer, y, found[layer.y], held_out(first, count))
            first += count
            self.before.put(number, {n: made[n] for n in segment.outputs})
        stretch, shift, before, after = moments.solve()
        better = after < before
        self.fits.append(
            LayerFit(layer.node.name, before, after if better else before, 0.0 if better else None)
        )
        if better:
            for copy in (self.copy, self._whole):
                _apply(copy, layer, self._statistics(layer), stretch, shift)

    def _statistics(self, layer: Linear) -> tuple[str, str] | None:
        """Stored names of a normalisation's mean and variance, where they are its alone."""
        if layer.norm is None:
            return None
        constants, graph = self.coupling.walk.constants, self.coupling.walk.graph
        names = []
        for name in layer.norm.inputs[3:5]:
            source = constants.source(name)
            stored = constants.is_float(source.name) and not constants.is_derived(source.name)
            if not stored or source.name != name or len(graph.consumers.get(name, ())) != 1:
                return None
            names.append(name)
        return names[0], names[1]


def _apply(
    copy: WorkingCopy,
    layer: Linear,
    statistics: tuple[str, str] | None,
    stretch: FloatArray,
    shift: FloatArray,
) -> None:
    """Y <- stretch y + shift, in a layer or in the normalisation behind it."""
    if statistics is not None and layer.norm is not None:
        mean, variance = (np.asarray(copy.get(n), np.float64).reshape(-1) for n in statistics)
        epsilon = float(layer.norm.attr("epsilon", 1e-5))
        copy.set(statistics[0], (mean - shift) / stretch)
        # what a tiny variance cannot give stays with epsilon
        copy.set(statistics[1], np.maximum((variance + epsilon) / stretch**2 - epsilon, 0.0))
        return
    by_group = stretch.reshape(layer.groups, 1, -1)
    copy.set_matrix(layer, copy.matrix(layer) * by_group)
    bias = copy.bias(layer)
    copy.set_bias(layer, (bias if layer.bias_outside else bias * stretch) + shift)


class _Moments:
    """Sums of a layer's outputs in both networks, of training and of held-out samples."""

    def __init__(self, outputs: int) -> None:
        self._sums = np.zeros((2, 2, 2, outputs))
        """(held out, network, power, channel)."""
        self._counts = np.zeros(2)

    def add(self, layer: Linear, old: AnyArray, new: AnyArray, held: BoolArray) -> None:
        """Adds a batch of outputs (samples first)."""
        for network, value in enumerate((old, new)):
            rows = _by_channel(layer, value, len(held))
            for part in range(2):
                chosen = rows[held == bool(part)].reshape(-1, rows.shape[-1])
                self._sums[part, network, 0] += chosen.sum(axis=0)
                self._sums[part, network, 1] += np.square(chosen).sum(axis=0)
                if network == 0:
                    self._counts[part] += len(chosen)

    def solve(self) -> tuple[FloatArray, FloatArray, float, float]:
        """Stretch and shift, and how far the moments are off without and with them."""
        (mean, deviation), (new_mean, new_deviation) = self._moments(0)
        usable = new_deviation > _FAINT * deviation
        stretch = np.divide(deviation, new_deviation, out=np.ones_like(deviation), where=usable)
        stretch = np.clip(stretch, 1.0 / _LARGEST_STRETCH, _LARGEST_STRETCH)
        shift = mean - stretch * new_mean
        one, none = np.ones_like(stretch), np.zeros_like(shift)
        return stretch, shift, self._apart(one, none), self._apart(stretch, shift)

    def _moments(self, part: int) -> list[tuple[FloatArray, FloatArray]]:
        found = []
        for sums in self._sums[part] / max(self._counts[part], 1.0):
            spread = np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0.0))
            found.append((sums[0], spread))
        return found

    def _apart(self, stretch: FloatArray, shift: FloatArray) -> float:
        """Squared gap of means and deviations, relative to the variances."""
        part = 1 if self._counts[1] else 0
        (mean, deviation), (new_mean, new_deviation) = self._moments(part)
        gap = np.square(stretch * new_mean + shift - mean)
        gap += np.square(stretch * new_deviation - deviation)
        # what has been constant is measured by its size
        spread, size = float(np.square(deviation).sum()), float(np.square(mean).sum())
        return float(gap.sum()) / max(spread, _NOTHING * size, _NOTHING)


def _by_channel(layer: Linear, value: AnyArray, samples: int) -> FloatArray:
    """(samples, positions, channels), in double precision; zeros for what is not finite."""
    moved = np.moveaxis(np.asarray(value, np.float64), layer.axis, -1)
    rows = moved.reshape(samples, -1, moved.shape[-1])
    return np.where(np.isfinite(rows), rows, 0.0)
