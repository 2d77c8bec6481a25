"""Conditions are settled by what the declared inputs imply, entry by entry, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from net_builder import Net
from onnx import TensorProto, helper

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.settled import Settled
from onnx_scsp.graph.view import view

Condition = Callable[[Net, str], str]


def sizes(n: Net, x: str, *entries: int) -> str:
    return str(n.op("Gather", n.op("Shape", x), n.const(list(entries)), axis=0))


def flat(n: Net, x: str, *parts: str) -> str:
    """A picture reshaped to what the parts say."""
    return str(n.op("Reshape", x, n.op("Concat", *parts, axis=0)))


def equal(n: Net, x: str, *to: int) -> str:
    return str(n.op("Equal", x, n.const(list(to))))


def of_a_copy(n: Net, x: str) -> str:
    twice = n.op("Concat", sizes(n, x, 0), sizes(n, x, 1), axis=0)
    return equal(n, n.op("Slice", twice, n.const([1]), n.const([2])), 4)


def of_a_padded_axis(n: Net, x: str) -> str:
    pads = n.op("Concat", n.const([0, 2, 0, 0]), n.const([0, 3, 0, 0]), axis=0)
    return equal(n, sizes(n, n.op("Pad", x, pads), 1), 9)


def of_a_reshaped_axis(n: Net, x: str) -> str:
    deep = flat(n, x, sizes(n, x, 0), n.const([1]), sizes(n, x, 1), sizes(n, x, 2), n.const([-1]))
    return equal(n, sizes(n, deep, 1), 1)


def of_an_unsqueezed_size(n: Net, x: str) -> str:
    """Gather a number, Unsqueeze, Concat: how exporters spell a shape."""
    number = n.op("Gather", n.op("Shape", x), n.const(1), axis=0)
    if n.opset < 13:
        number = n.op("Unsqueeze", number, axes=[0])
    else:
        number = n.op("Unsqueeze", number, n.const([0]))
    return equal(n, sizes(n, flat(n, x, sizes(n, x, 0), number, n.const([-1])), 1), 4)


CASES: dict[str, tuple[Condition, bool | None]] = {
    "channels": (lambda n, x: equal(n, sizes(n, x, 1), 4), True),
    "channels, false": (lambda n, x: equal(n, sizes(n, x, 1), 5), False),
    "batch": (lambda n, x: equal(n, sizes(n, x, 0), 3), None),
    "height": (lambda n, x: equal(n, sizes(n, x, 2), 8), None),
    "declared width": (lambda n, x: equal(n, sizes(n, x, 3), 8), True),
    "channels as a type": (
        lambda n, x: n.op("Cast", n.op("Sub", sizes(n, x, 1), n.const([4])), to=9),
        False,
    ),
    "batch times zero": (
        lambda n, x: equal(n, n.op("Mul", sizes(n, x, 0), n.const([0])), 0),
        None,
    ),
    "of a copy": (of_a_copy, True),
    "of a padded axis": (of_a_padded_axis, True),
    "of a reshaped axis": (of_a_reshaped_axis, True),
    "of an unsqueezed size": (of_an_unsqueezed_size, True),
    "of values": (
        lambda n, x: n.op("Greater", n.op("ReduceMax", x, keepdims=0), n.const(0.5)),
        None,
    ),
    "several numbers": (lambda n, x: equal(n, sizes(n, x, 1, 3), 4, 8), None),
}


def settled(condition: Condition, opset: int) -> bool | None:
    n = Net(opset)
    x = n.input("N", 4, "H", 8)
    flag = condition(n, x)
    model = from_proto(n.build(n.op("Identity", flag), output_shape=None))
    graph = view(model.proto)
    known = Settled(model, graph, Constants(model, graph), {})
    return known.condition(graph.producers[model.proto.graph.output[0].name])


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", CASES)
def test_a_condition_is_known_exactly_where_no_open_size_goes_into_it(
    name: str, opset: int
) -> None:
    condition, expected = CASES[name]
    assert settled(condition, opset) is expected


def test_recorded_shapes_prove_nothing() -> None:
    """A file may state them too narrowly, from the one input that it was traced with."""
    n = Net()
    x = n.input("N", 4, "H", 8)
    y = n.op("Relu", x)
    flag = equal(n, sizes(n, y, 2), 8)
    proto = n.build(n.op("Identity", flag))
    proto.graph.value_info.append(helper.make_tensor_value_info(y, 1, [1, 4, 8, 8]))
    model = from_proto(proto)
    graph = view(model.proto)
    known = Settled(model, graph, Constants(model, graph), {})
    assert known.condition(graph.producers[proto.graph.output[0].name]) is None


def test_a_size_that_is_no_size_is_open() -> None:
    """Some writers declare -1 where they mean any."""
    n = Net()
    x = n.input("N", 4, "H", 8)
    proto = n.build(n.op("Identity", equal(n, sizes(n, n.op("Relu", x), 2), -1)))
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -1
    model = from_proto(proto)
    graph = view(model.proto)
    known = Settled(model, graph, Constants(model, graph), {})
    assert known.condition(graph.producers[proto.graph.output[0].name]) is None


def test_large_constants_take_part_by_their_shape_alone() -> None:
    n = Net()
    x = n.input("N", 4, "H", 8)
    weight = n.const(np.ones((2000, 4, 1, 1)))
    y = n.op("Conv", x, weight)
    proto = n.build(n.op("Identity", equal(n, sizes(n, y, 1), 2000)))
    model = from_proto(proto)
    graph = view(model.proto)
    known = Settled(model, graph, Constants(model, graph), {})
    assert known.condition(graph.producers[proto.graph.output[0].name]) is True


def test_small_constants_of_any_type_do_not_stand_in_the_way() -> None:
    n = Net()
    x = n.input("N", 4, "H", 8)
    proto = n.build(n.op("Identity", equal(n, sizes(n, x, 1), 4)))
    for place, kind in enumerate((TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.INT4)):
        proto.graph.initializer.append(helper.make_tensor(f"odd{place}", kind, [3], [1, 2, 3]))
    text = helper.make_tensor("text", TensorProto.STRING, [2], [b"a", b"b"])
    proto.graph.initializer.append(text)
    proto.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0], []))
    model = from_proto(proto)
    graph = view(model.proto)
    known = Settled(model, graph, Constants(model, graph), {})
    assert known.condition(graph.producers[proto.graph.output[0].name]) is True
