"""Tied weights: one tensor axis that makes channels in one layer and reads them in another."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import onnx_scsp


def autoencoder(path, copies: bool):
    """x @ W -> relu -> @ W.T: W's second axis makes and, through Transpose, reads."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 8)).astype(np.float32)
    if copies:
        weight[:, 4:] = weight[:, :4]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["r", "wt"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tied",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return onnx_scsp.load(path)


def test_a_tied_axis_makes_and_reads_one_group(tmp_path):
    (group,) = onnx_scsp.find_groups(autoencoder(tmp_path / "m.onnx", copies=False)).groups
    roles = {(member.tensor, member.axis, member.role.value) for member in group.members}
    assert roles == {("w", 1, "makes"), ("w", 1, "reads")}


def test_no_survivor_takes_over_where_that_would_change_what_it_makes(tmp_path):
    model = autoencoder(tmp_path / "m.onnx", copies=True)
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1)
    plan = onnx_scsp.make_plan(model, config)
    assert plan.cuts
    assert not any(cut.absorbed_by for cut in plan.cuts)


def test_the_cut_of_a_tied_weight_is_verified(tmp_path):
    autoencoder(tmp_path / "m.onnx", copies=False)
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1)
    assert onnx_scsp.prune(tmp_path / "m.onnx", tmp_path / "o.onnx", config).report
