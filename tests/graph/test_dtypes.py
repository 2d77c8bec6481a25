"""Half, bfloat16, single and double precision weights keep their type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_scsp
from graph.conftest import HALF
from graph.small import FLOATS, conv_net, image, initializers, one_input, run, write

RUNNABLE = ["float16", "float32"]  # the CPU runtime has no Conv for the other two


def pruned(dtype: str, folder: Path) -> tuple[onnx_scsp.PruneResult, onnx.ModelProto]:
    opset = 22 if dtype == "bfloat16" else 17  # the first that has a bfloat16 Conv
    proto = conv_net(dtype=dtype, ir_version=10, opset=opset)
    source, output = write(proto, folder / "in.onnx"), folder / "out.onnx"
    result = onnx_scsp.prune(source, output, HALF, verified=dtype in RUNNABLE)
    return result, onnx.load(output)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_weight_keeps_its_type(dtype: str, tmp_path: Path) -> None:
    _, after = pruned(dtype, tmp_path)
    assert {item.data_type for item in after.graph.initializer} == {FLOATS[dtype]}


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_group_is_cut(dtype: str, tmp_path: Path) -> None:
    result, after = pruned(dtype, tmp_path)
    assert result.layers["conv1"] == (8, 4)
    assert list(initializers(after)["conv2.w"].dims) == [8, 4, 3, 3]


@pytest.mark.parametrize("dtype", RUNNABLE)
def test_the_result_is_verified_and_runs_in_its_own_type(dtype: str, tmp_path: Path) -> None:
    result, _ = pruned(dtype, tmp_path)
    assert result.report
    assert run(result.output, image(dtype=dtype))["logits"].dtype == dtype


def test_a_double_network_without_convolutions_is_verified(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(size) for name, size in (("a", (6, 16)), ("b", (16, 4)))}
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "b"], ["y"], "second"),
    ]
    proto = one_input(nodes, arrays, ("batch", 6), out_shape=("batch", 4))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    source = write(proto, tmp_path / "in.onnx")
    result = onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    assert result.report
    assert result.layers["first"] == (16, 8)
