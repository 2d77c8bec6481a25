"""Concrete input shapes, and the walk that knows shapes and small values of everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graph.small import conv_net, one_input
from onnx_scsp.couple.walk import walk
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.shapes import InputSpec, Walker, input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.ops import RULES


def specs(proto: onnx.ModelProto, **more: object) -> tuple[InputSpec, ...]:
    model = from_proto(proto)
    graph = view(model.proto)
    return input_specs(model, graph, Constants(model, graph), **more)


def walked(
    nodes: Sequence[onnx.NodeProto],
    arrays: dict[str, np.ndarray] | None = None,
    shape: tuple[int | str, ...] = ("batch", 3, 8, 8),
    opset: int = 17,
) -> Walker:
    model = from_proto(one_input(list(nodes), arrays, shape, opset=opset))
    graph = view(model.proto)
    constants = Constants(model, graph)
    walker = Walker(model, constants, input_specs(model, graph, constants))
    for node in graph.nodes:
        walker.advance(node)
    return walker


# ---- inputs ---------------------------------------------------------------------------------


def shape_of(dims: tuple[int | str | None, ...], **more: object) -> tuple[int, ...]:
    return specs(one_input([helper.make_node("Relu", ["x"], ["y"])], shape=dims), **more)[0].shape


def test_fixed_axes_are_taken_from_the_file() -> None:
    assert shape_of((2, 3, 8, 8)) == (2, 3, 8, 8)


def test_an_open_batch_is_one() -> None:
    assert shape_of(("batch", 3, 8, 8)) == (1, 3, 8, 8)


def test_open_axes_differ_between_the_two_variants() -> None:
    first, second = (shape_of(("n", 3, "h", None), variant=v) for v in (0, 1))
    assert [a != b for a, b in zip(first, second, strict=True)] == [True, False, True, True]


def test_axes_of_one_name_have_one_size() -> None:
    shape = shape_of(("n", 3, "side", "side"))
    assert shape[2] == shape[3]


def test_an_open_channel_axis_takes_the_count_of_the_conv_that_reads_it() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], group=2)
    proto = one_input([conv], {"w": np.zeros((4, 3, 1, 1), np.float32)}, (1, "c", 8, 8))
    assert specs(proto)[0].shape == (1, 6, 8, 8)


def test_the_record_says_which_axes_are_open() -> None:
    proto = one_input([helper.make_node("Relu", ["x"], ["y"])], shape=("n", 3, 8, None))
    assert specs(proto)[0].dynamic == (True, False, False, True)


def test_an_override_fills_open_axes() -> None:
    assert shape_of(("n", 3, "h", "w"), overrides={"x": (4, 3, 16, 20)}) == (4, 3, 16, 20)


def test_an_override_with_a_batch_still_varies_with_the_variant() -> None:
    shape = shape_of(("n", 3, "h", "w"), overrides={"x": (4, 3, 16, 20)}, variant=1)
    assert shape == (5, 3, 16, 20)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"z": (1, 3, 8, 8)}, "names 'z'"),
        ({"x": (1, 3, 8)}, "3 axes given"),
        ({"x": (1, 4, 8, 8)}, "axis 1 is 4"),
        ({"x": (0, 3, 8, 8)}, "axis 0 is 0"),
        ({"x": (-1, 3, 8, 8)}, "axis 0 is -1"),
    ],
)
def test_an_override_that_contradicts_the_file_is_refused(
    overrides: dict[str, tuple[int, ...]], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        shape_of(("n", 3, 8, 8), overrides=overrides)


def test_initializers_that_are_listed_as_inputs_are_no_inputs() -> None:
    proto = conv_net()
    proto.graph.input.append(helper.make_tensor_value_info("fc.b", TensorProto.FLOAT, [5]))
    assert [spec.name for spec in specs(proto)] == ["image"]


# ---- walk -----------------------------------------------------------------------------------

FLATTEN_BY_SHAPE = [
    helper.make_node("Shape", ["x"], ["shape"], "shape"),
    helper.make_node("Gather", ["shape", "zero"], ["size"], "size"),
    helper.make_node("Unsqueeze", ["size", "axes"], ["head"], "head"),
    helper.make_node("Concat", ["head", "minus_one"], ["target"], "target", axis=0),
    helper.make_node("Reshape", ["x", "target"], ["y"], "y"),
]
NUMBERS = {"zero": np.array(0), "axes": np.array([0]), "minus_one": np.array([-1])}


def test_shapes_follow_from_inference() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1] * 4)
    walker = walked([conv], {"w": np.zeros((5, 3, 3, 3), np.float32)})
    assert walker.shapes["y"] == (1, 5, 4, 4)
    assert walker.types["y"] == TensorProto.FLOAT


def test_shape_arithmetic_is_evaluated() -> None:
    walker = walked(FLATTEN_BY_SHAPE, NUMBERS)
    assert walker.values["target"].tolist() == [1, -1]
    assert walker.shapes["y"] == (1, 192)


def test_shape_of_a_slice_of_axes_is_evaluated() -> None:
    walker = walked([helper.make_node("Shape", ["x"], ["y"], start=1, end=-1)])
    assert walker.values["y"].tolist() == [3, 8]


def test_size_is_evaluated() -> None:
    walker = walked([helper.make_node("Size", ["x"], ["y"])], shape=(2, 3, 8, 8))
    assert walker.values["y"].item() == 384


def test_a_value_that_contains_the_open_batch_is_not_static() -> None:
    model = from_proto(one_input(FLATTEN_BY_SHAPE, NUMBERS))
    static = walk(model, RULES).is_static
    assert not static["target"]
    assert not static["size"]


def test_values_of_a_fixed_shape_are_static() -> None:
    model = from_proto(one_input(FLATTEN_BY_SHAPE, NUMBERS, shape=(2, 3, 8, 8)))
    static = walk(model, RULES).is_static
    assert static["target"]
    assert static["size"]


def test_a_value_that_leaves_the_open_axis_out_is_static() -> None:
    channels = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "one"], ["channels"], "channels"),
        helper.make_node("Identity", ["x"], ["y"], "y"),
    ]
    static = walk(from_proto(one_input(channels, {"one": np.array(1)})), RULES).is_static
    assert static["channels"]
    assert not static["shape"]


def test_activations_are_not_computed() -> None:
    constant = helper.make_node("ConstantOfShape", ["s"], ["y"])
    walker = walked([constant], {"s": np.array([1 << 20, 1 << 20])})
    assert "y" not in walker.values


@pytest.mark.parametrize(
    ("node", "arrays"),
    [
        (helper.make_node("Expand", ["v", "s"], ["y"]), {"s": np.array([1 << 30])}),
        (helper.make_node("Tile", ["v", "s"], ["y"]), {"s": np.array([1 << 30])}),
        (
            helper.make_node("Range", ["a", "b", "c"], ["y"]),
            {"a": np.array(0), "b": np.array(1 << 40), "c": np.array(1)},
        ),
        (
            helper.make_node("Range", ["a", "b", "c"], ["y"]),
            {"a": np.array(0), "b": np.array(1), "c": np.array(0)},
        ),
    ],
    ids=["Expand", "Tile", "Range", "Range without step"],
)
def test_an_operator_that_blows_a_value_up_is_not_evaluated(
    node: onnx.NodeProto, arrays: dict[str, np.ndarray]
) -> None:
    walker = walked([node], {"v": np.ones(1, np.float32)} | arrays)
    assert "y" not in walker.values


def test_an_operator_without_schema_leaves_the_shape_unknown() -> None:
    stranger = helper.make_node("Strange", ["x"], ["z"], domain="org.custom")
    follower = helper.make_node("Relu", ["z"], ["y"])
    model = from_proto(one_input([stranger, follower], out_shape=("n", "c")))
    graph = view(model.proto)
    constants = Constants(model, graph)
    walker = Walker(model, constants, input_specs(model, graph, constants))
    for node in graph.nodes:
        walker.advance(node)
    assert "z" not in walker.shapes
    assert "y" not in walker.shapes


def test_a_declared_shape_serves_where_inference_does_not_know() -> None:
    stranger = helper.make_node("Strange", ["x"], ["y"], domain="org.custom")
    model = from_proto(one_input([stranger], out_shape=(1, 7)))
    graph = view(model.proto)
    constants = Constants(model, graph)
    walker = Walker(model, constants, input_specs(model, graph, constants))
    walker.advance(graph.nodes[0])
    assert walker.shapes["y"] == (1, 7)


def test_sizes_that_do_not_fit_leave_the_shape_unknown() -> None:
    add = helper.make_node("Add", ["x", "v"], ["z"])
    walker = walked([add], {"v": np.ones(5, np.float32)})
    assert "z" not in walker.shapes


def test_a_type_that_the_operator_set_does_not_know_leaves_the_shape_unknown() -> None:
    model = from_proto(conv_net(dtype="bfloat16"))  # Conv takes bfloat16 from opset 22 on
    assert "conv1" not in walk(model, RULES).walker.shapes


def test_restart_forgets_everything_but_inputs_and_constants() -> None:
    walker = walked(FLATTEN_BY_SHAPE, NUMBERS)
    fresh = walker.restart()
    assert set(fresh.shapes) == {"x", *NUMBERS}
    assert "y" in walker.shapes


def test_a_learned_value_replaces_a_constant() -> None:
    walker = walked(FLATTEN_BY_SHAPE, NUMBERS)
    walker.learn_value("minus_one", np.array([5, 6]))
    assert walker.shapes["minus_one"] == (2,)
    assert walker.values["minus_one"].tolist() == [5, 6]


def test_an_observed_shape_does_not_replace_a_known_one() -> None:
    walker = walked(FLATTEN_BY_SHAPE, NUMBERS)
    walker.observe("y", (9, 9), TensorProto.INT64)
    assert walker.shapes["y"] == (1, 192)
