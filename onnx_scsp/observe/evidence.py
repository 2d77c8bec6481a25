"""What calibration inputs say about every pool of units: who goes first, and what that costs.

Two curves over the number k of units that stay:

    local(k)     error of the readers' outputs after their best linear repair, relative to the
                 variance of the place where they land (see `elimination`)
    measured(k)  divergence of the network's outputs when this pool alone is cut to k and its
                 readers are repaired, at some k; below the smallest of them along local(k)

    damage(k) = sqrt(local(k) measured(k))

The measurement knows what an error does at the end; the local error is smooth where the measurement
is noisy (docs/methods.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_scsp.couple import Coupling
from onnx_scsp.evaluate import Gaps
from onnx_scsp.graph.session import InferenceSession, open_variant, run_session
from onnx_scsp.observe.elimination import Elimination, Read, eliminate
from onnx_scsp.observe.layers import downstream, input_units
from onnx_scsp.observe.statistics import Batch, LayerStatistics, Progress, collect
from onnx_scsp.observe.weights import WorkingCopy
from onnx_scsp.types import FloatArray, IntArray

LEVELS = (0.9, 0.75, 0.55, 0.35)
"""Shares of a pool at which the whole network is measured."""
_MEASURING_MACS = 2e12
"""About what all measurements together may cost; fewer samples where a network is large."""
_COUNTS_VALUES = frozenset({"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"})
"""Operators whose output has as many entries as some values say."""
_FEWEST_SAMPLES, _MOST_SAMPLES = 8, 256


@dataclass(frozen=True, slots=True, eq=False)
class PoolEvidence:
    """One pool.

    Attributes:
        order: int (n,), rows of the pool from the first to go to the last.
        local: float64 (n + 1,), local error over the units that stay.
        damage: float64 (n + 1,), what the allocation weighs.
    """

    order: IntArray
    local: FloatArray
    damage: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All pools, in the planner's order.

    Attributes:
        pools: None for a pool that has one unit or that nothing reads which can be observed.
    """

    pools: tuple[PoolEvidence | None, ...]


def gather_evidence(
    coupling: Coupling,
    pools: Sequence[IntArray],
    batches: Iterable[Batch],
    samples: int,
    *,
    measured: bool = True,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = lambda _what, _done, _total: None,
) -> Evidence:
    """Observes the model on calibration inputs.

    Args:
        coupling: The model.
        pools: For each pool the global numbers of its units.
        batches: The inputs; gone through more than once.
        samples: How many there are.
        measured: Whether the network's outputs are measured, beside the local errors.
        seed: Seed of the sampled positions.
        threads: Threads of the runtime.
        progress: Called with (what, done, total).

    Returns:
        Evidence per pool.
    """
    found = collect(coupling, batches, samples, seed=seed, threads=threads, progress=progress)
    names = outputs_of_known_size(coupling) if measured else []
    judge = _Judge(coupling, batches, names, len(pools), threads) if names else None
    result: list[PoolEvidence | None] = []
    for place, units in enumerate(pools):
        progress("measuring groups", place, len(pools))
        # a unit one of a kind has no equals to make up for it
        reads = reads_of(coupling, units, found) if units.size > 1 else ()
        result.append(_observe(reads, units.size, judge) if reads else None)
    progress("measuring groups", len(pools), len(pools))
    return Evidence(tuple(result))


def reads_of(
    coupling: Coupling, units: IntArray, found: Mapping[int, LayerStatistics]
) -> tuple[Read, ...]:
    """Every group of every layer that reads some of the units."""
    constants = coupling.walk.constants
    row_of = {int(unit): row for row, unit in enumerate(units)}
    reads: list[Read] = []
    for statistics in found.values():
        layer = statistics.layer
        width = layer.inputs // layer.groups
        if width == 1:
            continue  # filters channels one by one: it passes units on
        owners = input_units(coupling, layer.x, layer.inputs, layer.axis)
        owners = owners.reshape(layer.groups, width)
        mine = np.isin(owners, units)
        if not mine.any():
            continue
        matrix = layer.to_matrix(constants.array(layer.weight))
        scale = statistics.landing.scale.reshape(layer.groups, -1)
        for group in np.flatnonzero(mine.any(axis=1)):
            inputs: dict[int, list[int]] = {}
            for channel in np.flatnonzero(mine[group]):
                first = int(channel) * layer.taps
                row = row_of[int(owners[group, channel])]
                inputs.setdefault(row, []).extend(range(first, first + layer.taps))
            covariance, mean = statistics.train.moments(int(group))
            reads.append(
                Read(
                    layer=layer,
                    group=int(group),
                    covariance=covariance,
                    mean=mean,
                    weight=matrix[group],
                    scale=scale[group],
                    inputs={row: np.array(places) for row, places in inputs.items()},
                    variance=statistics.variance,
                )
            )
    return tuple(reads)


def _observe(reads: tuple[Read, ...], size: int, judge: _Judge | None) -> PoolEvidence:
    levels = sorted({min(max(1, round(share * size)), size) for share in LEVELS} - {size})
    way = eliminate(reads, size, levels if judge is not None else ())
    damage = way.loss
    if judge is not None and levels:
        measured = judge.curve(reads, way, levels)
        damage = np.sqrt(way.loss * measured)
    return PoolEvidence(way.order, way.loss, np.asarray(damage))


def outputs_of_known_size(coupling: Coupling) -> list[str]:
    """Graph outputs whose size does not depend on the values: only these can be compared."""
    graph = coupling.walk.graph
    loose = [name for n in graph.nodes if n.op_type in _COUNTS_VALUES for name in n.outputs if name]
    varying = downstream(graph, loose)
    return [name for name in graph.outputs if name not in varying]


class _Judge:
    """Measures what a repaired cut of one pool does to the network's outputs."""

    def __init__(
        self,
        coupling: Coupling,
        batches: Iterable[Batch],
        names: list[str],
        n_pools: int,
        threads: int,
    ) -> None:
        self._coupling = coupling
        self._threads = threads
        runs = max(n_pools * len(LEVELS), 1)
        afford = _MEASURING_MACS / max(coupling.macs, 1) / runs
        samples = int(min(max(afford, _FEWEST_SAMPLES), _MOST_SAMPLES))
        # the last samples, because the statistics weigh all alike and any will do
        self._batches = _last(batches, samples)
        with self._open(coupling.model.proto) as session:
            self._outputs = [run_session(session, b, names) for b in self._batches]

    def _open(self, proto: onnx.ModelProto) -> AbstractContextManager[InferenceSession]:
        return open_variant(proto, self._coupling.model, threads=self._threads, optimise=True)

    def curve(self, reads: tuple[Read, ...], way: Elimination, levels: list[int]) -> FloatArray:
        """Divergence over the number of units that stay, float64 (n + 1,)."""
        heights = [self._divergence(reads, way.snapshots[level]) for level in levels]
        # fewer units never hurt less; what says otherwise is noise
        heights = list(np.maximum.accumulate(np.array(heights)[::-1])[::-1])
        size = way.loss.size - 1
        curve = np.interp(np.arange(size + 1), [*levels, size], [*heights, 0.0])
        first = levels[0]
        curve[:first] = heights[0] * way.loss[:first] / max(way.loss[first], 1e-12)
        return np.asarray(np.maximum(curve, 0.0))

    def _divergence(self, reads: tuple[Read, ...], weights: tuple[FloatArray, ...]) -> float:
        copy = WorkingCopy(self._coupling.model, self._coupling.walk.constants)
        for read, weight in zip(reads, weights, strict=True):
            matrix, bias = copy.matrix(read.layer), copy.bias(read.layer)
            per_group = bias.reshape(read.layer.groups, -1).copy()
            per_group[read.group] += read.mean @ (matrix[read.group] - weight)
            matrix[read.group] = weight
            copy.set_matrix(read.layer, matrix)
            if read.layer.bias:
                copy.set_bias(read.layer, per_group.reshape(-1))
        gaps = Gaps()
        with self._open(copy.proto) as session:
            for batch, outputs in zip(self._batches, self._outputs, strict=True):
                gaps.add(outputs, run_session(session, batch, list(outputs)))
        value = gaps.value
        return value if np.isfinite(value) else 1e6


def _last(batches: Iterable[Batch], samples: int) -> list[Batch]:
    """The last batches that hold so many samples together."""
    taken: deque[Batch] = deque()
    count = 0
    for batch in batches:
        taken.append(batch)
        count += _length(batch)
        while count - _length(taken[0]) >= samples:
            count -= _length(taken.popleft())
    return list(taken)


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))
