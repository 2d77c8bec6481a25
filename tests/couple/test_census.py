"""What is counted and named: layers without constant weights, nodes without names, MACs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.graph.load import from_proto


def build(nodes, weights, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def test_a_layer_whose_weight_is_an_input_is_named_with_its_reason():
    rng = np.random.default_rng(0)
    model = build(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], name="first"),
            helper.make_node("Conv", ["a", "w"], ["y"], name="dynamic"),
        ],
        {"w1": rng.standard_normal((8, 3, 1, 1))},
        {"x": [1, 3, 4, 4], "w": [5, 8, 1, 1]},
        {"y": [1, 5, 4, 4]},
    )
    found = onnx_scsp.find_groups(model)
    layers = {layer.node: layer for layer in found.layers}
    assert (layers["dynamic"].channels, layers["dynamic"].free) == (5, 0)
    assert layers["dynamic"].macs == 5 * 8 * 16
    reasons = {f.reason.value for f in found.frozen if "dynamic" in f.layers}
    assert reasons == {"COMPUTED_WEIGHT"}
    assert {f.node for f in found.frozen if "first" in f.layers} == {"dynamic (Conv)"}


def test_macs_of_a_convolution_are_output_size_times_slice():
    rng = np.random.default_rng(0)
    model = build(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2], group=2),
            helper.make_node("ConvTranspose", ["a", "w2"], ["y"], strides=[2, 2]),
        ],
        {"w1": rng.standard_normal((8, 2, 3, 3)), "w2": rng.standard_normal((8, 5, 2, 2))},
        {"x": [1, 4, 9, 9]},
        {"y": [1, 5, 8, 8]},
    )
    found = onnx_scsp.find_groups(model)
    assert [layer.macs for layer in found.layers] == [4 * 4 * 8 * 2 * 9, 4 * 4 * 8 * 5 * 4]
    assert found.macs == sum(layer.macs for layer in found.layers)
    assert found.params == 8 * 2 * 9 + 8 * 5 * 4


def test_unnamed_nodes_are_called_by_their_first_output():
    rng = np.random.default_rng(0)
    model = build(
        [helper.make_node("Conv", ["x", "w"], ["out"])],
        {"w": rng.standard_normal((4, 3, 1, 1))},
        {"x": [1, 3, 4, 4]},
        {"out": [1, 4, 4, 4]},
    )
    (layer,) = onnx_scsp.find_groups(model).layers
    assert layer.node == "out"


@pytest.mark.parametrize("batch", [1, 4])
def test_the_work_per_sample_counts_products_and_elements(batch):
    model = build(
        [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        {"w": np.ones((8, 3, 1, 1))},
        {"x": [batch, 3, 4, 4]},
        {"y": [batch, 8, 4, 4]},
    )
    coupling = find_coupling(model)
    assert coupling.batch == batch
    assert coupling.elements == batch * (3 + 8 + 8) * 16
    assert coupling.work == 3 * 8 * 16 + 32 * (3 + 8 + 8) * 16
