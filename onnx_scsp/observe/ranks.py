"""Ranks of feature maps (HRank; Lin et al., CVPR 2020).

    rank(c) = mean over samples of  rank( map of channel c )

A map of more than two axes is a matrix of its first axis against the others; one of fewer is a
column, whose rank says whether the channel is active at all. Ranks are counted in single precision:
what is smaller than rounding of the largest singular value is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.session import open_variant, run_session, with_outputs
from onnx_scsp.observe.layers import linear_layers
from onnx_scsp.observe.statistics import Batch, length_of
from onnx_scsp.types import AnyArray, FloatArray

SAMPLES = 64
"""So many suffice: ranks hardly differ between inputs, which is what HRank builds on."""


def feature_ranks(
    coupling: Coupling, batches: Iterable[Batch], *, threads: int = 1
) -> dict[str, FloatArray]:
    """Mean ranks of all that linear layers read.

    Args:
        coupling: The model.
        batches: Sample inputs, of which the first are used.
        threads: Threads of the runtime.

    Returns:
        Name of the activation -> float64 (channels,).
    """
    graph = coupling.walk.graph
    axis = {layer.x: layer.axis for layer in linear_layers(coupling)}
    names = [name for name in axis if name not in graph.inputs]
    sums: dict[str, FloatArray] = {}
    done = 0
    proto = with_outputs(coupling.model.proto, names)
    with open_variant(proto, coupling.model, threads=threads, optimise=True) as session:
        for batch in batches:
            values: Mapping[str, AnyArray] = {**run_session(session, batch, names), **batch}
            for name, place in axis.items():
                found = _ranks(values[name], place)
                sums[name] = sums.get(name, np.zeros(found.shape[1])) + found.sum(axis=0)
            done += length_of(batch)
            if done >= SAMPLES:
                break
    return {name: total / max(done, 1) for name, total in sums.items()}


def _ranks(value: AnyArray, axis: int) -> FloatArray:
    """(samples, channels): rank of every map."""
    if value.ndim < 2:
        value = value[None]
    maps = np.moveaxis(np.asarray(value, np.float32), axis, 1)
    rows = maps.shape[2] if maps.ndim > 2 else 1
    matrices = maps.reshape(*maps.shape[:2], rows, -1) if maps.size else np.zeros((1, 1, 1, 1))
    matrices = np.where(np.isfinite(matrices), matrices, 0.0).astype(np.float32)
    return np.asarray(np.linalg.matrix_rank(matrices), np.float64)
