"""Runs a model in onnxruntime and its lifted twin in torch on the same inputs."""

from __future__ import annotations

import numpy as np
import onnx
import torch

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import open_session, random_feeds, run_session
from onnx_scsp.graph.shapes import InputSpec, input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.retrain.lift import Lifted

Arrays = dict[str, np.ndarray]


def specs_of(model: Model) -> tuple[InputSpec, ...]:
    graph = view(model.proto)
    return input_specs(model, graph, Constants(model, graph))


def feeds_of(model: Model, seed: int = 0, batch: int | None = None) -> Arrays:
    return random_feeds(specs_of(model), seed, batch)


def runtime(model: Model, feeds: Arrays) -> Arrays:
    session = open_session(model.proto.SerializeToString(), optimise=False)
    return run_session(session, feeds)


def in_torch(lifted: Lifted, feeds: Arrays) -> Arrays:
    with torch.no_grad():
        results = lifted.run({name: torch.from_numpy(array) for name, array in feeds.items()})
    return {name: value.numpy() for name, value in results.items()}


def one_by_one(model: Model, feeds: list[Arrays], axis: int = 0) -> Arrays:
    """Outputs of a model of fixed batch size, run part by part and joined."""
    results = [runtime(model, part) for part in feeds]
    return {name: np.concatenate([r[name] for r in results], axis) for name in results[0]}


def joined(feeds: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in feeds]) for name in feeds[0]}


def apart(found: Arrays, expected: Arrays) -> float:
    """Largest difference of any output over its largest magnitude."""
    worst = 0.0
    for name, array in expected.items():
        assert found[name].shape == array.shape
        scale = max(float(np.abs(array).max(initial=0.0)), 1e-6)
        worst = max(worst, float(np.abs(found[name] - array).max(initial=0.0)) / scale)
    return worst


def static(proto: onnx.ModelProto, batch: int) -> Model:
    """The model with its batch fixed in the declared input shapes."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in fixed.graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    for output in fixed.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()
    return from_proto(fixed)
