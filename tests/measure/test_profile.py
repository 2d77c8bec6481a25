"""Profiles: known events give known tables, and kernels find the layer of the file they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph.small import DIGITS
from onnx import TensorProto, helper, numpy_helper

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.measure.profile import Kernel, _shares, by_layer, kernel_times, profile
from onnx_scsp.measure.subject import make_subject


def run_event(start: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": 90, "args": {}}


def kernel_event(name: str, op: str, start: int, spent_us: int) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": spent_us,
        "args": {"op_name": op},
    }


EVENTS = [
    {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5, "args": {}},
    *(run_event(start) for start in (100, 200, 300, 400)),
    kernel_event("conv", "Conv", 110, 9000),
    kernel_event("conv", "Conv", 210, 10),
    kernel_event("conv", "Conv", 310, 30),
    kernel_event("conv", "Conv", 410, 20),
    kernel_event("loop", "Add", 220, 1),
    kernel_event("loop", "Add", 230, 1),
    kernel_event("rare", "Relu", 320, 7),
    {"cat": "Node", "name": "conv_fence_before", "ts": 209, "dur": 5000, "args": {}},
]


def test_runs_of_the_warm_up_do_not_count_and_the_rest_gives_medians() -> None:
    conv = kernel_times(EVENTS, 1)[0]
    assert conv == Kernel("conv", "Conv", pytest.approx(0.020), 1)


def test_the_warm_up_would_have_changed_the_median() -> None:
    assert kernel_times(EVENTS, 0)[0].spent_ms > 0.020


def test_calls_within_a_run_add_up() -> None:
    loop = {kernel.name: kernel for kernel in kernel_times(EVENTS[:6] + EVENTS[9:11], 0)}["loop"]
    assert loop.count == 2


def test_a_kernel_that_most_runs_do_not_call_takes_no_time() -> None:
    rare = {kernel.name: kernel for kernel in kernel_times(EVENTS, 1)}["rare"]
    assert (rare.spent_ms, rare.count) == (0.0, 1)


def test_numbers_of_a_providers_subgraphs_are_left_out() -> None:
    events = [run_event(100), kernel_event("x_4_0", "subgraph_4", 110, 1)]
    assert kernel_times(events, 0)[0].op == "subgraph"


def test_a_profile_without_runs_is_refused() -> None:
    with pytest.raises(ModelError, match="no profile"):
        kernel_times(EVENTS, 4)


def test_sides_are_joined_by_name_and_the_longest_comes_first() -> None:
    a = [("x", Kernel("x", "Conv", 1.0, 1)), ("y", Kernel("y", "Add", 0.5, 2))]
    b = [("y", Kernel("y", "Add", 3.0, 2)), ("z", Kernel("z", "Reorder", 0.1, 1))]
    found = [(s.name, s.op, s.a_ms, s.b_ms, s.a_count, s.b_count) for s in _shares(a, b)]
    assert found == [
        ("y", "Add", 0.5, 3.0, 2, 2),
        ("x", "Conv", 1.0, 0.0, 1, 0),
        ("z", "Reorder", 0.0, 0.1, 0, 1),
    ]


def chain() -> onnx.ModelProto:
    """Conv (node `c`) -> Clip -> Add with a constant -> Relu."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c_out"], name="c"),
        helper.make_node("Clip", ["c_out", "low", "high"], ["clip_out"], name="clip"),
        helper.make_node("Add", ["clip_out", "one"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
    ]
    values = {"w": np.ones((4, 3, 1, 1), np.float32)}
    values |= {name: np.float32(value) for name, value in (("low", 0), ("high", 6), ("one", 1))}
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("kernel", "op", "layer"),
    [
        ("c", "Conv", "c"),
        ("c_out_nchwc", "Conv", "c"),
        ("clip_out_nchwc", "Conv", "c"),
        ("fused c", "FusedConv", "c"),
        ("relu", "Relu", "relu"),
        ("ReorderOutput", "ReorderOutput", "ReorderOutput"),
        ("relu", "Gemm", "relu"),
        ("DreamProvider_subgraph_4_0", "subgraph", "DreamProvider_subgraph"),
    ],
)
def test_a_kernel_is_put_down_to_the_layer_that_it_runs(kernel: str, op: str, layer: str) -> None:
    ((found, _),) = by_layer([Kernel(kernel, op, 1.0, 1)], from_proto(chain()))
    assert found == layer


def test_a_real_profile_names_the_layers_of_the_file_in_both_models() -> None:
    subject = make_subject(DIGITS / "digits_bn.onnx", DIGITS / "digits_folded.onnx")
    found = profile(subject, threads=1, provider="cpu")
    convs = {row.name: (row.a_count, row.b_count) for row in found.layers if "Conv" in row.op}
    for model in subject.models:
        named = {node.name for node in model.proto.graph.node if node.op_type == "Conv"}
        assert set(convs) <= named
    assert set(convs.values()) == {(1, 1)}
    by_op = {row.name: row for row in found.operators}
    assert by_op["Conv"].a_ms == pytest.approx(
        sum(row.a_ms for row in found.layers if row.op == "Conv")
    )
