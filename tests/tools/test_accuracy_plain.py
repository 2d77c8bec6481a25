"""What the accuracy bench rewrites before a network is converted to torch changes no value."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.accuracy

from tools.accuracy.plain import plain  # noqa: E402

X = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)


def network():
    """Conv with SAME_UPPER, its bias added as a reshaped constant behind an Identity; MatMul."""
    random = np.random.default_rng(1)

    def constant(name, array):
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))

    nodes = [
        constant("w", random.standard_normal((4, 3, 2, 2)).astype(np.float32)),
        constant("flat", random.standard_normal(4).astype(np.float32)),
        constant("shape", np.array([1, 4, 1, 1])),
        constant("m", random.standard_normal((4, 5)).astype(np.float32)),
        helper.make_node("Identity", ["flat"], ["same"]),
        helper.make_node("Reshape", ["same", "shape"], ["bias"]),
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "m"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])
    graph = helper.make_graph(nodes, "old", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)


def run(model):
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": X})[0]


def test_every_word_is_rewritten_and_no_value_changes():
    expected = run(network())
    rewritten = plain(network())
    assert run(rewritten) == pytest.approx(expected, abs=1e-5)
    kinds = [node.op_type for node in rewritten.graph.node]
    assert kinds == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    conv = rewritten.graph.node[0]
    assert len(conv.input) == 3
    assert {a.name: list(a.ints) for a in conv.attribute if a.ints}["pads"] == [0, 0, 1, 1]


def test_an_add_that_others_read_past_stays():
    model = network()
    model.graph.node.append(helper.make_node("Relu", ["a"], ["z"]))
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4, 6, 6])
    model.graph.output.append(z)
    expected = run(model)
    rewritten = plain(model)
    assert "Add" in [node.op_type for node in rewritten.graph.node]
    assert run(rewritten) == pytest.approx(expected, abs=1e-5)
