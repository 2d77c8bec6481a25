"""What cannot be proved because the original itself does not run is the user's to know."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_scsp


def twins_by_name(path):
    """Two nodes of one name: onnx accepts the file, onnxruntime refuses it."""
    rng = np.random.default_rng(0)
    weights = {"w1": (8, 3, 1, 1), "w2": (8, 8, 1, 1), "w3": (4, 8, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="same"),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="same"),
        helper.make_node("Conv", ["b", "w3"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [
            numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
            for n, s in weights.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())


def test_an_original_that_does_not_run_is_an_error_of_the_input(tmp_path):
    twins_by_name(tmp_path / "m.onnx")
    with pytest.raises(onnx_scsp.ScspError, match="the original does not run") as caught:
        onnx_scsp.prune(tmp_path / "m.onnx", tmp_path / "o.onnx")
    assert "--input-shape" in str(caught.value)
    assert not (tmp_path / "o.onnx").exists()
