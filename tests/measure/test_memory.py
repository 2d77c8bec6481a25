"""Peak memory in child processes: more weights take more, and a child that fails says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.measure.footprint import peak_rss_bytes
from onnx_scsp.measure.memory import peak_memory
from onnx_scsp.measure.subject import make_subject


def dense(width: int) -> onnx.ModelProto:
    """One MatMul of `width` squared float32 weights."""
    weight = np.zeros((width, width), np.float32)
    weight.flat[:: width + 1] = 1.0
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
            helper.make_node("Expand", ["m", "shape"], ["e"]),
            helper.make_node("MatMul", ["e", "w"], ["y"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.array([1, width], np.int64), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_model_with_more_weights_takes_at_least_those_more() -> None:
    subject = make_subject(from_proto(dense(64)), from_proto(dense(4096)))
    found = peak_memory(subject, threads=1, provider="cpu")
    assert found.b_bytes - found.a_bytes > 4 * 4096**2
    assert found.baseline_bytes > 1 << 20


def test_the_parent_does_not_count() -> None:
    ballast = np.ones(1 << 27, np.uint8)
    subject = make_subject(from_proto(dense(64)), from_proto(dense(64)))
    found = peak_memory(subject, threads=1, provider="cpu")
    assert peak_rss_bytes() > ballast.nbytes
    assert found.a_bytes < ballast.nbytes


def test_a_model_that_does_not_open_there_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    subject = make_subject(from_proto(dense(64)), from_proto(dense(64)))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be measured") as caught:
        peak_memory(replace(subject, sources=(broken, broken)), threads=1, provider="cpu")
    assert "Traceback" not in str(caught.value)
