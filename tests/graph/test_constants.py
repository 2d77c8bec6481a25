"""Constants wherever they sit, and the way back to the stored tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graph.small import conv_net, one_input, tensor, write_external
from onnx_scsp.graph.constants import Constants, Source
from onnx_scsp.graph.load import from_proto, load
from onnx_scsp.graph.view import view

W = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def constants(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, np.ndarray] | None = None, opset: int = 17
) -> Constants:
    """Constants of a model whose only input has nothing to do with them."""
    user = helper.make_node("Identity", ["x"], ["y"], "user")
    stored = {"w": W} if arrays is None else arrays
    model = from_proto(one_input([*nodes, user], stored, opset=opset))
    return Constants(model, view(model.proto))


def node(op: str, *inputs: str, opset: int = 17, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), ["c"], f"{op}_c", **attributes)


VIEWS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[int, ...]]] = {
    "Identity": ([node("Identity", "w")], {}, (0, 1, 2)),
    "Cast": ([node("Cast", "w", to=TensorProto.DOUBLE)], {}, (0, 1, 2)),
    "Transpose": ([node("Transpose", "w", perm=[2, 0, 1])], {}, (2, 0, 1)),
    "Transpose without perm": ([node("Transpose", "w")], {}, (2, 1, 0)),
    "Unsqueeze": ([node("Unsqueeze", "w", "axes")], {"axes": np.array([0, 2])}, (-1, 0, -1, 1, 2)),
    "Unsqueeze from the end": ([node("Unsqueeze", "w", "axes")], {"axes": np.array([-1])},
                               (0, 1, 2, -1)),
}  # fmt: skip


@pytest.mark.parametrize("case", VIEWS)
def test_a_view_leads_back_to_the_stored_tensor(case: str) -> None:
    nodes, more, axes = VIEWS[case]
    assert constants(nodes, {"w": W} | more).source("c") == Source("w", axes)


@pytest.mark.parametrize("case", VIEWS)
def test_the_shape_of_a_view_is_that_of_its_values(case: str) -> None:
    nodes, more, _ = VIEWS[case]
    found = constants(nodes, {"w": W} | more)
    assert found.shape("c") == found.array("c").shape


@pytest.mark.parametrize("case", VIEWS)
def test_the_axis_mapping_says_where_each_size_comes_from(case: str) -> None:
    nodes, more, axes = VIEWS[case]
    shape = constants(nodes, {"w": W} | more).shape("c")
    assert shape == tuple(W.shape[axis] if axis >= 0 else 1 for axis in axes)


@pytest.mark.parametrize(
    ("axes", "kept"),
    [([0], (1, 2, 3)), ([0, 2], (1, 3)), ([-2], (0, 1, 3)), (None, (1, 3))],
)
def test_squeeze_leads_back_past_the_axes_it_drops(
    axes: list[int] | None, kept: tuple[int, ...]
) -> None:
    arrays = {"w": np.zeros((1, 3, 1, 4), np.float32)}
    inputs = ["w"]
    if axes is not None:
        arrays["axes"] = np.array(axes)
        inputs.append("axes")
    assert constants([node("Squeeze", *inputs)], arrays).source("c") == Source("w", kept)


def test_axes_as_attribute_of_an_old_operator_set_are_understood() -> None:
    found = constants([node("Unsqueeze", "w", axes=[1])], opset=11)
    assert found.source("c") == Source("w", (0, -1, 1, 2))


def test_a_chain_of_views_composes() -> None:
    nodes = [
        helper.make_node("Identity", ["w"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 2, 0]),
        helper.make_node("Unsqueeze", ["b", "axes"], ["d"]),
        helper.make_node("Transpose", ["d"], ["c"], perm=[3, 2, 1, 0]),
    ]
    found = constants(nodes, {"w": W, "axes": np.array([0])})
    assert found.source("c") == Source("w", (0, 2, 1, -1))
    assert found.shape("c") == found.array("c").shape == (2, 4, 3, 1)


def test_an_initializer_is_its_own_source() -> None:
    assert constants([]).source("w") == Source("w", (0, 1, 2))


def test_a_computed_constant_is_its_own_source() -> None:
    found = constants([node("Mul", "w", "w")])
    assert found.source("c") == Source("c", (0, 1, 2))
    assert np.array_equal(found.array("c"), W * W)


def test_what_depends_on_an_input_is_no_constant() -> None:
    assert "y" not in constants([])


def test_what_depends_on_an_unknown_operator_is_no_constant() -> None:
    stranger = helper.make_node("Strange", ["w"], ["c"], domain="org.custom")
    assert "c" not in constants([stranger])


def test_a_random_value_is_no_constant() -> None:
    assert "c" not in constants([node("RandomNormalLike", "w")])


CONSTANT_NODES: dict[str, tuple[dict[str, object], np.ndarray]] = {
    "value": ({"value": tensor(W, "v")}, W),
    "value_float": ({"value_float": 1.5}, np.array(1.5, np.float32)),
    "value_floats": ({"value_floats": [1.5, 2.5]}, np.array([1.5, 2.5], np.float32)),
    "value_int": ({"value_int": -7}, np.array(-7, np.int64)),
    "value_ints": ({"value_ints": [1, 2, 3]}, np.array([1, 2, 3], np.int64)),
}


@pytest.mark.parametrize("kind", CONSTANT_NODES)
def test_a_constant_node_holds_its_value(kind: str) -> None:
    attributes, want = CONSTANT_NODES[kind]
    value = constants([node("Constant", **attributes)], {}).array("c")
    assert value.dtype == want.dtype
    assert np.array_equal(value, want)


@pytest.mark.parametrize("kind", CONSTANT_NODES)
def test_a_constant_node_has_the_shape_of_its_value(kind: str) -> None:
    attributes, want = CONSTANT_NODES[kind]
    assert constants([node("Constant", **attributes)], {}).shape("c") == want.shape


def test_a_text_constant_is_left_alone() -> None:
    assert "c" not in constants([node("Constant", value_string=b"\xff")], {})


def test_a_sparse_constant_is_left_alone() -> None:
    ints = tensor(np.arange(2), "t")
    sparse = onnx.SparseTensorProto(dims=[4], values=ints, indices=ints)
    assert "c" not in constants([node("Constant", sparse_value=sparse)], {})


def test_a_constant_node_is_a_source_but_no_initializer() -> None:
    found = constants([node("Constant", value=tensor(W, "v"))], {})
    assert found.source("c").name == "c"
    assert not found.is_initializer("c")
    assert not found.is_derived("c")


def test_constant_of_shape_is_generated() -> None:
    fill = tensor(np.array([2.5], np.float32), "v")
    found = constants([node("ConstantOfShape", "s", value=fill)], {"s": np.array([2, 3])})
    assert found.is_generated("c")
    assert found.shape("c") == (2, 3)
    assert np.array_equal(found.array("c"), np.full((2, 3), 2.5, np.float32))


def test_constant_of_shape_without_a_value_is_float_zero() -> None:
    found = constants([node("ConstantOfShape", "s")], {"s": np.array([4])})
    assert found.is_float("c")
    assert np.array_equal(found.array("c"), np.zeros(4, np.float32))


def test_constant_of_shape_of_integers_is_not_float() -> None:
    fill = tensor(np.array([2]), "v")
    found = constants([node("ConstantOfShape", "s", value=fill)], {"s": np.array([4])})
    assert not found.is_float("c")


def test_names_lists_what_is_stored_and_not_what_is_derived() -> None:
    nodes = [
        helper.make_node("Constant", [], ["held"], value_int=1),
        helper.make_node("ConstantOfShape", ["s"], ["filled"]),
        helper.make_node("Transpose", ["w"], ["turned"]),
    ]
    found = constants(nodes, {"w": W, "s": np.array([2])})
    assert sorted(found.names()) == ["filled", "held", "s", "w"]


def test_size_counts_elements() -> None:
    assert constants([]).size("w") == 24


def test_a_scalar_has_one_element() -> None:
    assert constants([], {"w": np.array(1.0, np.float32)}).size("w") == 1


def test_external_values_are_mapped_and_equal(tmp_path: Path) -> None:
    path = write_external(conv_net(), tmp_path / "in.onnx", lambda _: "net.bin", align=64)
    model, inside = load(path), from_proto(conv_net())
    found, want = (Constants(m, view(m.proto)) for m in (model, inside))
    assert isinstance(found.array("conv2.w"), np.memmap)
    assert all(np.array_equal(found.array(name), want.array(name)) for name in want.names())


def test_a_shared_view_function_is_not_confused_by_absent_operands() -> None:
    clipped = helper.make_node("Clip", ["w", "", "top"], ["c"])
    found = constants([clipped], {"w": W, "top": np.array(5.0, np.float32)})
    assert np.array_equal(found.array("c"), np.minimum(W, 5.0))
