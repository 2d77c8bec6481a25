"""Measuring, at the network's outputs, what a repaired cut of one pool does.

With readers of weight W over inputs of covariance H, of which K stay and R go, the others make up
for what goes as well as they can by

    W'_K = W_K + (H_KK + damping)^-1 H_KR W_R        W'_R = 0

and the bias takes up the means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import onnx

from onnx_scsp.couple import Coupling
from onnx_scsp.evaluate import Gaps
from onnx_scsp.graph.session import InferenceSession, open_variant, run_session
from onnx_scsp.observe.elimination import DAMPING, Read
from onnx_scsp.observe.layers import downstream
from onnx_scsp.observe.statistics import Batch, held_out, length_of
from onnx_scsp.observe.weights import WorkingCopy
from onnx_scsp.types import BoolArray, FloatArray

MEASURING_MACS = 2e12
"""About what all measurements together may cost; fewer samples where a network is large."""
_COUNTS_VALUES = frozenset({"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"})
"""Operators whose output has as many entries as some values say."""
_FEWEST_SAMPLES, _MOST_SAMPLES = 8, 256


class Judge:
    """Compares the network's outputs with those of the original.

    Args:
        coupling: The model.
        batches: What it runs on.
        names: Outputs that can be compared.
        threads: Threads of the runtime.
    """

    def __init__(
        self, coupling: Coupling, batches: list[Batch], names: list[str], threads: int
    ) -> None:
        self._coupling = coupling
        self._threads = threads
        self._batches = batches
        with self._open(coupling.model.proto) as session:
            self._outputs = [run_session(session, b, names) for b in self._batches]

    def _open(self, proto: onnx.ModelProto) -> AbstractContextManager[InferenceSession]:
        return open_variant(proto, self._coupling.model, threads=self._threads, optimise=True)

    def divergence(self, reads: Sequence[Read], weights: Sequence[FloatArray]) -> float:
        """Divergence of the outputs when readers have these weights."""
        copy = WorkingCopy(self._coupling.model, self._coupling.walk.constants)
        for read, weight in zip(reads, weights, strict=True):
            matrix, bias = copy.matrix(read.layer), copy.bias(read.layer)
            per_group = bias.reshape(read.layer.groups, -1).copy()
            fresh = weight.reshape(matrix[read.group].shape)
            mean = np.repeat(read.mean, read.tied)
            per_group[read.group] += mean @ (matrix[read.group] - fresh)
            matrix[read.group] = fresh
            copy.set_matrix(read.layer, matrix)
            if read.layer.bias:
                copy.set_bias(read.layer, per_group.reshape(-1))
        return self.compare(copy.proto)

    def compare(self, proto: onnx.ModelProto) -> float:
        """Divergence of the outputs of another network of the same interface."""
        gaps = Gaps()
        with self._open(proto) as session:
            for batch, outputs in zip(self._batches, self._outputs, strict=True):
                gaps.add(outputs, run_session(session, batch, list(outputs)))
        value = gaps.value
        return value if np.isfinite(value) else 1e6


def repaired_weight(read: Read, keep: BoolArray) -> tuple[FloatArray, float]:
    """A reader's weight when the units that stay make up for those that go.

    Args:
        read: The reader.
        keep: Bool (units,).

    Returns:
        float64 (D, O) with zeros for what goes, and the loss, relative to the variance.
    """
    gone = np.zeros(len(read.covariance), bool)
    for row, places in read.inputs.items():
        gone[places] = not keep[row]
    weight = read.weight.copy()
    weight[gone] = 0.0
    if not gone.any():
        return weight, 0.0
    stays = ~gone
    removed = read.weight[gone]
    left = read.covariance[np.ix_(gone, gone)]
    if stays.any():
        damping = DAMPING * float(np.trace(read.covariance)) / len(read.covariance)
        inner = read.covariance[np.ix_(stays, stays)] + max(damping, 1e-12) * np.eye(stays.sum())
        across = read.covariance[np.ix_(stays, gone)]
        taken = np.linalg.solve(inner, across)
        weight[stays] += taken @ removed
        left = left - across.T @ taken
    scaled = removed * read.scale
    loss = max(float(np.sum(scaled * (left @ scaled))), 0.0)
    return weight, loss / max(read.variance, 1e-300)


def affordable_samples(coupling: Coupling, runs: int) -> int:
    """On how many samples so many measurements can be made."""
    afford = MEASURING_MACS / coupling.work / max(runs, 1)
    return int(min(max(afford, _FEWEST_SAMPLES), _MOST_SAMPLES))


def outputs_of_known_size(coupling: Coupling) -> list[str]:
    """Graph outputs whose size does not depend on the values: only these can be compared."""
    graph = coupling.walk.graph
    loose = [name for n in graph.nodes if n.op_type in _COUNTS_VALUES for name in n.outputs if name]
    varying = downstream(graph, loose)
    return [name for name in graph.outputs if name not in varying]


def last_samples(batches: Iterable[Batch], samples: int) -> list[Batch]:
    """The last batches that hold so many samples together."""
    taken: deque[Batch] = deque()
    count = 0
    for batch in batches:
        taken.append(batch)
        count += length_of(batch)
        while count - length_of(taken[0]) >= samples:
            count -= length_of(taken.popleft())
    return list(taken)


def has_fixed_batch(coupling: Coupling) -> bool:
    """Whether the model takes batches of one size only, which is not 1."""
    inputs = coupling.model.proto.graph.input
    fixed = [v.type.tensor_type.shape.dim[0].dim_value for v in inputs
             if v.type.tensor_type.shape.dim]  # fmt: skip
    return any(size > 1 for size in fixed)


def held_out_samples(coupling: Coupling, batches: Iterable[Batch], samples: int) -> list[Batch]:
    """The first held-out samples, which no statistics have seen.

    Of a model with a fixed batch the last batches are taken whole: there no sample can be left out.
    """
    if has_fixed_batch(coupling):
        return last_samples(batches, samples)
    found: list[Batch] = []
    first = count = 0
    for batch in batches:
        length = length_of(batch)
        chosen = held_out(first, length)
        first += length
        if chosen.any():
            found.append({name: array[chosen] for name, array in batch.items()})
            count += int(chosen.sum())
        if count >= samples:
            break
    return found or last_samples(batches, samples)
