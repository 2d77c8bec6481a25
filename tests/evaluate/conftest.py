"""Fixtures for the evaluation tests: small models with known answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_scsp.calibration import open_calibration
from onnx_scsp.evaluate import Predictor
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model


def _model(nodes, shape, output, weights, elem_type=TensorProto.FLOAT) -> Model:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", elem_type, output)
    tensors = [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(proto)
    return from_proto(proto)


@pytest.fixture
def affine() -> Callable[..., Model]:
    """y = factor * x + shift, then perhaps one more operator."""

    def make(factor=1.0, shift=0.0, shape=("n", 3), then="", **attrs) -> Model:
        nodes = [
            helper.make_node("Mul", ["x", "f"], ["m"]),
            helper.make_node("Add", ["m", "s"], ["a" if then else "y"]),
        ]
        elem_type, output = TensorProto.FLOAT, list(shape)
        if then:
            nodes.append(helper.make_node(then, ["a"], ["y"], **attrs))
        if then == "ArgMax":
            elem_type, output = TensorProto.INT64, [f"o{i}" for i in range(len(shape) - 1)]
        if then == "ReduceSum":
            output = []
        weights = {"f": np.float32(factor), "s": np.asarray(shift, np.float32)}
        return _model(nodes, list(shape), output, weights, elem_type)

    return make


@pytest.fixture
def predictor(affine) -> Callable[..., Predictor]:
    def make(*args, **kwargs) -> Predictor:
        return Predictor(affine(*args, **kwargs))

    return make


@pytest.fixture
def data_of(affine):
    """Calibration data from an array."""

    def make(values, **options):
        values = np.asarray(values, np.float32)
        return open_calibration(values, affine(shape=("n", *values.shape[1:])), **options)

    return make
