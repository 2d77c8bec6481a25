"""What cannot be proved because the original itself does not run is the user's to know."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from net_builder import Net
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


def test_an_original_that_takes_a_batch_of_1_alone_is_compared_at_1(tmp_path):
    n = Net()
    y = n.relu(n.conv(n.input("N", 3, 8, 8), 8))
    state = n.input(1, 4, 8, 8, name="state")
    out = n.conv(n.op("Concat", y, state, axis=1, channels=12), 4)
    onnx.save(n.build(out), tmp_path / "m.onnx")
    config = onnx_scsp.PruneConfig(value=0.6, align=1)
    done = onnx_scsp.prune(tmp_path / "m.onnx", tmp_path / "o.onnx", config)
    (check,) = [check for check in done.report.checks if check.name == "runtime"]
    assert check.passed
    assert "batch 1," in check.detail


def test_inputs_that_are_single_numbers_go_through_the_oracles(tmp_path):
    """They are scaled and changed by rounding steps, and arrays all the same."""
    n = Net()
    y = n.conv(n.relu(n.conv(n.input("N", 3, 8, 8), 8)), 4)
    n.inputs.append(helper.make_tensor_value_info("factor", TensorProto.FLOAT, ()))
    onnx.save(n.build(n.op("Mul", y, "factor")), tmp_path / "m.onnx")
    config = onnx_scsp.PruneConfig(value=0.6, align=1)
    done = onnx_scsp.prune(tmp_path / "m.onnx", tmp_path / "o.onnx", config)
    assert {"masked twin", "permutation"} <= {check.name for check in done.report.checks}


def test_a_window_larger_than_the_sizes_tried_is_an_error_that_says_so(tmp_path):
    n = Net()
    x = n.op("Unsqueeze", n.input("N", "samples"), n.const([1]), channels=1)
    y = n.op("Conv", x, n.random(8, 1, 512), strides=[256], channels=8)
    y = n.op("Conv", n.op("Abs", y), n.random(4, 8, 1), channels=4)
    onnx.save(n.build(n.op("Mul", y, y)), tmp_path / "m.onnx")
    config = onnx_scsp.PruneConfig(value=0.6, align=1)
    with pytest.raises(onnx_scsp.ScspError, match="does not run there; try --input-shape"):
        onnx_scsp.prune(tmp_path / "m.onnx", tmp_path / "o.onnx", config)
    shapes = onnx_scsp.VerifyConfig(input_shapes={"x": (1, 4096)})
    onnx_scsp.prune(tmp_path / "m.onnx", tmp_path / "o.onnx", config, verify_config=shapes)
    assert (tmp_path / "o.onnx").exists()
