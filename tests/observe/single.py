"""Models of one linear layer each, and what the runtime says about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from net_builder import Net

from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.observe.layers import Linear, linear_layers
from onnx_scsp.observe.rows import Sample, draw, inputs_seen, outputs_at
from onnx_scsp.observe.weights import WorkingCopy

Build = Callable[[Net, str], str]
SAMPLES = 2


@dataclass(frozen=True)
class Single:
    """One layer, its input and what the runtime computes from it."""

    coupling: Coupling
    layer: Linear
    x: np.ndarray
    y: np.ndarray

    @property
    def copy(self) -> WorkingCopy:
        return WorkingCopy(self.coupling.model, self.coupling.walk.constants)


def coupling_of(proto: onnx.ModelProto) -> Coupling:
    return find_coupling(from_proto(proto))


def single(build: Build, *shape: int, opset: int = 17, seed: int = 0) -> Single:
    """Builds a model around one layer and runs it; `shape` is that of the input.

    Whatever the layer computes is read where the layer ends, with a bias that a later Add holds.
    """
    n = Net(opset, seed)
    x = n.input(*shape)
    proto = n.build(n.op("Identity", build(n, x)))
    coupling = coupling_of(proto)
    (layer,) = linear_layers(coupling)
    feeds = {x: np.random.default_rng(seed + 1).standard_normal(shape).astype(np.float32)}
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    end = layer.y
    if layer.bias_outside:
        end = coupling.walk.graph.consumers[layer.y][0].outputs[0]
    names = [end] if layer.x == x else [end, layer.x]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with open_variant(probe, coupling.model) as session:
        found = {**feeds, **run_session(session, feeds, names)}
    return Single(coupling, layer, found[layer.x], found[end])


def sampled(one: Single, count: int, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return draw(one.layer, one.x.shape, one.y.shape, count, rng)


def predicted(one: Single, sample: Sample) -> np.ndarray:
    """Rows x matrix + bias, (samples, positions, outputs)."""
    layer = one.layer
    rows = inputs_seen(layer, one.x, sample, np.ones(layer.inputs, bool))
    matrix, bias = one.copy.matrix(layer), one.copy.bias(layer)
    products = [part @ matrix[group] for group, part in enumerate(rows)]
    return np.concatenate(products, axis=2) + bias


def gap(one: Single, count: int = 7, sample: Sample | None = None) -> float:
    """Largest difference between the runtime and the rows, relative to the largest output."""
    sample = sample or sampled(one, count)
    expected = outputs_at(one.layer, one.y, sample)
    return float(np.abs(predicted(one, sample) - expected).max() / np.abs(expected).max())
