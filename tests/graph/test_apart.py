"""Variants that are run: weights beside the message, outputs as those of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graph.small import FLOATS, image, initializers, point_outside, tensor, write, write_external
from onnx_scsp.errors import InternalError
from onnx_scsp.graph.apart import Variant, put, variant_of
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import load
from onnx_scsp.graph.patch import Patch, apply_patch, patched_variant
from onnx_scsp.graph.session import open_apart, open_session, run_session
from onnx_scsp.graph.view import view

WIDE, NARROW = 64, 2


def wide_net(dtype: str = "float32", ir_version: int = 8, width: int = WIDE) -> onnx.ModelProto:
    """Two layers of which the second one's weights are large, and a bias that is small."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.standard_normal((width, 3, 3, 3)),
        "w2": rng.standard_normal((width, width, 3, 3)) / width,
        "b2": rng.standard_normal(width),
        "sizes": np.array([0, -1]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "first"),
        helper.make_node("Conv", ["a", "w2", "b2"], ["b"], "second"),
        helper.make_node("Reshape", ["b", "sizes"], ["y"], "flat"),
    ]
    stored = [
        tensor(array if name == "sizes" else array.astype(dtype), name)
        for name, array in arrays.items()
    ]
    inputs = [helper.make_tensor_value_info("image", FLOATS[dtype], ["batch", 3, 8, 8])]
    if ir_version < 4:
        inputs += [
            helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
            for item in stored
        ]
    output = helper.make_tensor_value_info("y", FLOATS[dtype], ["batch", "values"])
    graph = helper.make_graph(nodes, "wide", inputs, [output], stored)
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, ir_version=ir_version, opset_imports=opset)


def outputs(variant: Variant, dtype: str = "float32") -> np.ndarray:
    with open_apart(variant) as session:
        return run_session(session, image(dtype=dtype))["y"]


def expected(path: Path, dtype: str = "float32") -> np.ndarray:
    return run_session(open_session(path, optimise=False), image(dtype=dtype))["y"]


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_variant_computes_what_its_file_computes(
    dtype: str, ir_version: int, tmp_path: Path
) -> None:
    path = write(wide_net(dtype, ir_version), tmp_path / "m.onnx")
    assert np.array_equal(outputs(variant_of(load(path)), dtype), expected(path, dtype))


@pytest.mark.parametrize("place", ["net.bin", "beside"])
def test_external_values_of_any_size_and_place_are_read(place: str, tmp_path: Path) -> None:
    path = write_external(
        wide_net(), tmp_path / "m.onnx", lambda name: None if name == "sizes" else place
    )
    assert np.array_equal(outputs(variant_of(load(path))), expected(path))


def test_an_external_value_of_a_constant_node_is_read(tmp_path: Path) -> None:
    proto = wide_net()
    bias = next(item for item in proto.graph.initializer if item.name == "b2")
    (tmp_path / "b2.bin").write_bytes(bias.raw_data)
    want = expected(write(proto, tmp_path / "inside.onnx"))
    value = TensorProto()
    value.CopyFrom(bias)
    point_outside(value, "b2.bin")
    proto.graph.initializer.remove(bias)
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["b2"], value=value))
    path = write(proto, tmp_path / "m.onnx")
    assert np.array_equal(outputs(variant_of(load(path))), want)


def test_large_values_lie_apart_and_small_ones_do_not(tmp_path: Path) -> None:
    model = load(write(wide_net(), tmp_path / "m.onnx"))
    variant = variant_of(model)
    assert set(variant.arrays) == {"w1", "w2"}
    assert variant.proto.ByteSize() < 2000
    assert initializers(variant.proto)["sizes"].raw_data


def test_values_that_are_not_wanted_are_left_out(tmp_path: Path) -> None:
    model = load(write(wide_net(), tmp_path / "m.onnx"))
    assert set(variant_of(model, without=("w2", "b2")).arrays) == {"w1"}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_patched_variant_computes_what_the_patched_model_computes(
    width: int, tmp_path: Path
) -> None:
    """New values may be large or small, whatever the old ones were."""
    model = load(write(wide_net(), tmp_path / "m.onnx"))
    constants = Constants(model, view(model.proto))
    rng = np.random.default_rng(1)
    patch = Patch(
        tensors={
            "w1": rng.standard_normal((width, 3, 3, 3)).astype(np.float32),
            "w2": rng.standard_normal((5, width, 3, 3)).astype(np.float32),
            "b2": rng.standard_normal(5).astype(np.float32),
        }
    )
    variant = patched_variant(model, constants, patch)
    path = write(apply_patch(model, constants, patch), tmp_path / "patched.onnx")
    assert np.array_equal(outputs(variant), expected(path))


def test_a_tensor_keeps_its_type(tmp_path: Path) -> None:
    variant = variant_of(load(write(wide_net(), tmp_path / "m.onnx")))
    weight = initializers(variant.proto)["w2"]
    with pytest.raises(InternalError, match="change its type"):
        put(variant, weight, np.zeros((WIDE, WIDE, 3, 3)))
