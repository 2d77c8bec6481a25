"""Asymmetric reconstruction: layer after layer towards what the original network computes.

In graph order, for every layer that sees a change,

    min_W  sum | y + (other - other') / s - W^T [r' 1] |^2  +  ridge towards the present weights

    r'       the inputs in the network as cut and repaired so far
    y        the layer's outputs in the original network
    other    the other operand of the residual sum that the outputs join, original and now (')
    s        scale of the normalisation between the layer and that sum

so that a layer makes up for the errors of all layers before it, not only for its own missing inputs
(He, Zhang, Sun, arXiv 1707.06168). The ridge strength is chosen on
held-out samples, and where no fit beats the present weights there, they stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx_scsp.compensate.channels import ChannelFit
from onnx_scsp.compensate.rectified import MOST_ELEMENTS, MOST_PRODUCTS, Rows, refine
from onnx_scsp.compensate.segments import Runner, Segment, Shelf, alive_after, cut_graph
from onnx_scsp.couple import Coupling
from onnx_scsp.observe.landing import Landing, invertible, landing
from onnx_scsp.observe.layers import Linear, downstream, kept_inputs, linear_layers, standing_bias
from onnx_scsp.observe.regression import SHARES, Products, fit
from onnx_scsp.observe.rows import Sample, draw, draw_inputs, inputs_seen, outputs_at
from onnx_scsp.observe.statistics import (
    LARGEST_GRAM,
    Batch,
    Progress,
    held_out,
    positions_per_sample,
    targets_by_group,
)
from onnx_scsp.observe.weights import WorkingCopy
from onnx_scsp.surgery.cut import masked_readers, masked_reductions
from onnx_scsp.types import AnyArray, BoolArray, FloatArray

SHELF_BYTES = 1 << 30
"""Activations beyond this go to disk."""

MOST_CHANNELS = LARGEST_GRAM // 2
"""Layers of up to so many input channels (of a group) can be fitted channel by channel."""
_SPARSE = 4
"""A first impression comes from one position in so many."""
_BORDER_POSITIONS = 64
"""Positions per sample that show how much of a kernel lies inside."""
_NO_TENSORS = frozenset(
    {"Optional", "SequenceConstruct", "SequenceEmpty", "SequenceMap", "SplitToSequence"}
)
"""Operators whose values cannot be put aside: graphs with them are not repaired."""


@dataclass(frozen=True, slots=True)
class LayerFit:
    """What the repair did to one layer, on held-out samples.

    Attributes:
        node: Name of the layer's node.
        before: Squared error of its outputs with the weights as cut, relative to their variance; of
            their means and deviations alone where only these are brought back.
        after: The same with the weights as they are now.
        share: Ridge strength that was chosen (0 where there is none), None where nothing changed.
    """

    node: str
    before: float
    after: float
    share: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """New values for constants of the model, which keep their shapes; the cut comes after.

    Attributes:
        weights: Stored constant -> values.
        fits: The layers, in graph order.
    """

    weights: Mapping[str, AnyArray]
    fits: tuple[LayerFit, ...]


def reconstruct(
    coupling: Coupling,
    keep: BoolArray,
    batches: Iterable[Batch],
    samples: int,
    *,
    seed: int = 0,
    threads: int = 1,
    by_channel: bool = False,
    thorough: bool = True,
    shelf_bytes: int = SHELF_BYTES,
    progress: Progress = lambda _what, _done, _total: None,
) -> Reconstruction:
    """Refits every layer behind a cut, in one sweep through the graph.

    Args:
        coupling: The model.
        keep: Bool (units of the network,), which units stay.
        batches: Calibration inputs.
        samples: How many there are.
        seed: Seed of the sampled positions.
        threads: Threads of the runtime.
        by_channel: Whether every layer is fitted from Gram matrices of channels, not only those
            whose patches are too large (see `channels`).
        thorough: Whether fits see as many positions as can be of use, and go on to count only what
            a ReLU behind them lets through; else they are made for a first impression.
        shelf_bytes: How many bytes of activations, of each network, stay in memory.
        progress: Called with (what, layers done, layers).

    Returns:
        The new weights, and how well they fit.
    """
    with ExitStack() as stack:
        shelves = [stack.enter_context(Shelf(shelf_bytes)) for _ in range(2)]
        masked = masked_readers(coupling, keep)
        given = (coupling, keep, masked, samples, seed, threads, shelves)
        sweep = Refit(*given, by_channel=by_channel, thorough=thorough)
        return sweep.run(layers_to_refit(coupling, keep), batches, progress)


def layers_to_refit(coupling: Coupling, keep: BoolArray) -> list[Linear]:
    """Layers behind the first cut that can be fitted.

    Their inputs are few enough, and what a bias that stands fast adds (a shared one, say) is known.
    """
    found = []
    for layer in layers_behind(coupling, keep):
        if standing_bias(layer, coupling.walk.constants) is None:
            continue
        kept = kept_inputs(coupling, layer, keep)
        width = int(kept.sum()) // layer.groups * layer.taps
        few = width <= LARGEST_GRAM or layer.inputs // layer.groups <= MOST_CHANNELS
        if few and _is_even(layer, kept):
            found.append(layer)
    return found


def layers_behind(coupling: Coupling, keep: BoolArray) -> list[Linear]:
    """Layers behind the first cut."""
    graph = coupling.walk.graph
    if any(node.op_type in _NO_TENSORS for node in graph.nodes):
        return []
    layers = linear_layers(coupling)
    first = [layer.y for layer in layers if not kept_inputs(coupling, layer, keep).all()]
    first += [output for output, _ in masked_reductions(coupling, keep)]
    changed = downstream(graph, first)
    return [layer for layer in layers if layer.y in changed]


def _is_even(layer: Linear, kept: BoolArray) -> bool:
    """Whether every group keeps equally many inputs, and one at least."""
    counts = kept.reshape(layer.groups, -1).sum(axis=1)
    return bool((counts == counts[0]).all() and counts[0] > 0)


class Sweep:
    """The two networks, run side by side; what happens at each layer is a subclass's."""

    def __init__(
        self,
        coupling: Coupling,
        keep: BoolArray,
        readers: Mapping[str, AnyArray],
        samples: int,
        seed: int,
        threads: int,
        shelves: list[Shelf],
    ) -> None:
        self.coupling, self.keep, self.samples = coupling, keep, samples
        self.seed, self.threads = seed, threads
        self.before, self.now = shelves
        self.copy = WorkingCopy(coupling.model, coupling.walk.constants)
        for name, array in readers.items():
            self.copy.set(name, array)
        self.zeroed = masked_reductions(coupling, keep)
        self.fits: list[LayerFit] = []

    def run(
        self, layers: list[Linear], batches: Iterable[Batch], progress: Progress
    ) -> Reconstruction:
        """Goes through the layers in graph order."""
        graph, constants = self.coupling.walk.graph, self.coupling.walk.constants
        segments = cut_graph(graph, constants, [layer.node.index for layer in layers])
        alive = list(alive_after(segments))
        for batch in batches:
            number = self.before.add_batch()
            self.now.add_batch()
            self.before.put(number, batch)
            self.now.put(number, batch)
        for index, segment in enumerate(segments):
            progress("repairing layers", index, len(segments))
            if index:
                self.mend(layers[index - 1], segment)
            else:
                self._advance(self.before, self.runner(segment, self.coupling.model.proto))
            self._advance(self.now, self.runner(segment, self.copy.proto))
            for shelf in (self.before, self.now):
                for number in range(len(shelf)):
                    shelf.forget(number, alive[index])
        progress("repairing layers", len(segments), len(segments))
        return Reconstruction(self.weights(), tuple(self.fits))

    def mend(self, layer: Linear, segment: Segment) -> None:
        """Mends one layer, and takes the original through the segment that it begins."""
        raise NotImplementedError

    def weights(self) -> dict[str, AnyArray]:
        """Constants that took new values."""
        raise NotImplementedError

    def runner(self, segment: Segment, proto: onnx.ModelProto, *extra: str) -> Runner:
        """Runs a segment of one of the two networks."""
        zeroed = self.zeroed if proto is self.copy.proto else {}
        return Runner(self.coupling.model, segment, extra, proto, self.threads, zeroed)

    def _advance(self, shelf: Shelf, runner: Runner) -> None:
        for number in range(len(shelf)):
            shelf.put(number, runner(shelf.get(number, runner.segment.inputs)))


class Refit(Sweep):
    """Layer after layer towards what the original computes."""

    def __init__(self, *args: Any, by_channel: bool, thorough: bool) -> None:
        super().__init__(*args)
        self.by_channel, self.thorough = by_channel, thorough
        self.refitted: set[str] = set()

    def weights(self) -> dict[str, AnyArray]:
        """What was refitted; what was only masked is cut anyway."""
        return {n: a for n, a in self.copy.changed.items() if n in self.refitted}

    def mend(self, layer: Linear, segment: Segment) -> None:
        """Runs the original's segment on the way: its outputs are the targets."""
        graph, constants = self.coupling.walk.graph, self.coupling.walk.constants
        kept = kept_inputs(self.coupling, layer, self.keep)
        width = int(kept.sum()) // layer.groups * layer.taps
        few = layer.inputs // layer.groups <= MOST_CHANNELS
        if width > LARGEST_GRAM or (self.by_channel and few):
            self._mend_by_channel(layer, kept, segment)
            return
        place = landing(graph, constants, layer)
        runner = self.runner(segment, self.coupling.model.proto, layer.y)
        parts = [
            Products.zeros(layer.groups, width, layer.outputs // layer.groups) for _ in range(2)
        ]
        added = self._added_later(layer)
        memory = self._memory(layer, place, width)
        positions, first = self._positions(width), 0
        for number in range(len(self.before)):
            made = runner(self.before.get(number, segment.inputs))
            y = made[layer.y]
            x = self.now.get(number, [layer.x])[layer.x]
            rng = np.random.default_rng([self.seed, layer.node.index, number])
            sample = draw(layer, x.shape, y.shape, positions, rng)
            targets = outputs_at(layer, y, sample) + added
            gap = self._gap_at(number, place, y.shape)
            if gap is not None:
                targets += outputs_at(layer, gap, sample) / invertible(place.scale)
            rows = inputs_seen(layer, x, sample, kept)
            grouped = targets_by_group(layer, targets)
            held = held_out(first, len(sample.position))
            if memory is not None:
                behind = self._behind(layer, place, number, sample, added)
                memory.add(rows, grouped, targets_by_group(layer, behind), held)
            for products, chosen in zip(parts, (~held, held), strict=True):
                products.add_samples(rows[:, chosen], grouped[:, chosen])
            first += len(sample.position)
            self.before.put(number, {n: made[n] for n in segment.outputs})
        self._solve(layer, kept, place, memory, *parts)

    def _mend_by_channel(self, layer: Linear, kept: BoolArray, segment: Segment) -> None:
        runner = self.runner(segment, self.coupling.model.proto, layer.y)
        fitted = ChannelFit(layer, kept)
        positions, first = self._positions(layer.inputs // layer.groups), 0
        for number in range(len(self.before)):
            old, new = (s.get(number, [layer.x])[layer.x] for s in (self.before, self.now))
            made = runner(self.before.get(number, segment.inputs))
            rng = np.random.default_rng([self.seed, layer.node.index, number])
            place = draw_inputs(layer, new.shape, positions, rng)
            seen = draw(layer, new.shape, made[layer.y].shape, _BORDER_POSITIONS, rng)
            fitted.add(old, new, place, seen, held_out(first, len(place)))
            first += len(place)
            self.before.put(number, {n: made[n] for n in segment.outputs})
        whole = layer.to_matrix(self.coupling.walk.constants.array(layer.weight))
        found = fitted.solve(whole, self.copy.bias(layer))
        if found is None:
            return
        self.fits.append(LayerFit(layer.node.name, found.before, found.after, found.share))
        if found.share is not None:
            self._write(layer, found.matrix, found.bias)

    def _positions(self, width: int) -> int:
        """Positions that are drawn of every sample."""
        found = positions_per_sample(width, self.samples)
        return found if self.thorough else -(-found // _SPARSE)

    def _write(self, layer: Linear, matrix: FloatArray, bias: FloatArray) -> None:
        source = self.coupling.walk.constants.source(layer.weight)
        self.refitted.add(source.name)
        self.copy.set_matrix(layer, matrix)
        if layer.bias:
            self.refitted.add(layer.bias)
            self.copy.set_bias(layer, bias)

    def _added_later(self, layer: Linear) -> FloatArray:
        """The original's bias where the layer's outputs do not hold it yet."""
        if not layer.bias_outside:
            return np.zeros(layer.outputs)
        stored = self.coupling.walk.constants.array(layer.bias)
        return layer.bias_sign * np.asarray(stored, np.float64).reshape(-1)

    def _memory(self, layer: Linear, place: Landing, width: int) -> Rows | None:
        """Where to keep rows: a ReLU follows, a bias moves, the sum is known, rows are few."""
        if not layer.bias or (place.other and not self._same_shape(place)):
            return None
        size = self._positions(width) * self.samples * width
        few = size <= MOST_ELEMENTS and size * layer.outputs // layer.groups <= MOST_PRODUCTS
        return Rows() if self.thorough and place.rectified and few else None

    def _same_shape(self, place: Landing) -> bool:
        """Whether the sum's other operand is known by now, and is not broadcast or broadcasting."""
        other = self.now.get(0, [place.other]).get(place.other)
        shapes = self.coupling.walk.walker.shapes
        return other is not None and shapes.get(place.other) == shapes.get(place.value)

    def _behind(
        self, layer: Linear, place: Landing, number: int, sample: Sample, added: FloatArray
    ) -> FloatArray:
        """What is added to the scaled outputs before they land, in the network as it is now.

        The bias of a normalisation that is refitted counts among the outputs.
        """
        samples, positions = sample.position.shape
        shift = place.shift
        if layer.bias_sign < 0:
            shift = shift - place.scale * added
        behind = np.broadcast_to(shift, (samples, positions, layer.outputs))
        if not place.other:
            return behind
        other = self.now.get(number, [place.other])[place.other]
        return behind + outputs_at(layer, other, sample)

    def _gap_at(self, number: int, place: Landing, shape: tuple[int, ...]) -> AnyArray | None:
        """What the sum's other operand has lost, where both networks have computed it already."""
        if not place.other:
            return None
        before = self.before.get(number, [place.other]).get(place.other)
        now = self.now.get(number, [place.other]).get(place.other)
        if before is None or now is None or before.shape != shape:
            return None
        return before.astype(np.float64) - now

    def _solve(
        self,
        layer: Linear,
        kept: BoolArray,
        place: Landing,
        memory: Rows | None,
        train: Products,
        held: Products,
    ) -> None:
        matrix, bias = self.copy.matrix(layer), self.copy.bias(layer)
        chosen = np.repeat(kept, layer.taps).reshape(layer.groups, -1)
        slices = np.stack([matrix[g][chosen[g]] for g in range(layer.groups)])
        start = np.concatenate([slices, bias.reshape(layer.groups, 1, -1)], axis=1)
        if not train.rows:
            return
        judge = held if held.rows else train
        best, share, before = start, None, judge.error(start)
        lowest = before
        for strength in SHARES:
            weights = fit(train, start, strength, bias=bool(layer.bias))
            error = judge.error(weights)
            if np.isfinite(error) and error < lowest:
                best, share, lowest = weights, strength, error
        spread = max(judge.variance, 1e-300)
        self.fits.append(LayerFit(layer.node.name, before / spread, lowest / spread, share))
        if share is None:
            return
        if memory is not None:
            scale = place.scale.reshape(layer.groups, -1)
            better, old, new = refine(memory, train, start, best, share, scale)
            best = better if new < old else best
        for g in range(layer.groups):
            matrix[g][chosen[g]] = best[g, :-1]
        self._write(layer, matrix, best[:, -1].reshape(-1))
