"""Which layers can be refitted, what shifts them, where they land, which inputs stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from net_builder import Net, image
from onnx import TensorProto, helper

from observe.kinds import ALL
from observe.single import coupling_of, single
from onnx_scsp.couple import Coupling
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.observe.landing import Landing, invertible, landing
from onnx_scsp.observe.layers import Linear, downstream, kept_inputs, linear_layers

PADS = {"pads": [1, 1, 1, 1]}


def layers_of(proto: onnx.ModelProto) -> dict[str, Linear]:
    return {layer.y: layer for layer in linear_layers(coupling_of(proto))}


@pytest.mark.parametrize("name", ALL)
def test_a_matrix_and_back_is_the_weight_of(name: str) -> None:
    build, shape = ALL[name]
    layer = single(build, *shape).layer
    weight = np.random.default_rng(0).standard_normal(layer.shape)
    matrix = layer.to_matrix(weight)
    width = layer.inputs // layer.groups * layer.taps
    assert matrix.shape == (layer.groups, width, layer.outputs // layer.groups)
    np.testing.assert_allclose(layer.from_matrix(matrix), weight, rtol=1e-12)


# ---- which layers -----------------------------------------------------------------------------


def shared_weight(n: Net, x: str) -> str:
    w = n.random(3, 3, 3, 3)
    return str(n.op("Conv", n.op("Conv", x, w, **PADS), w, **PADS))


def weight_that_is_an_output(n: Net, x: str) -> str:
    return str(n.op("Conv", x, n.random(4, 3, 3, 3, name="kernel"), channels=4))


def computed_weight(n: Net, x: str) -> str:
    return str(n.op("Conv", x, n.op("Mul", n.random(4, 3, 3, 3), n.const(2.0)), channels=4))


def generated_weight(n: Net, x: str) -> str:
    value = onnx.numpy_helper.from_array(np.array([0.1], np.float32))
    return str(n.op("Conv", x, n.op("ConstantOfShape", n.const([4, 3, 3, 3]), value=value)))


def quantised_weight(n: Net, x: str) -> str:
    codes = n.const(np.ones((4, 3, 3, 3)), dtype=np.int8)
    w = n.op("DequantizeLinear", codes, n.const(0.1), n.const(0, dtype=np.int8))
    return str(n.op("Conv", x, w, channels=4))


def stacked_weight(n: Net, x: str) -> str:
    return str(n.op("MatMul", x, n.random(3, 8, 4)))


def weight_on_the_left(n: Net, x: str) -> str:
    return str(n.op("MatMul", n.random(8, 8), x))


def activation_as_weight(n: Net, x: str) -> str:
    return str(n.op("MatMul", x, n.op("Transpose", x, perm=[0, 1, 3, 2])))


def transposed_input(n: Net, x: str) -> str:
    flat = n.op("Flatten", n.op("GlobalAveragePool", x), axis=1)
    return str(n.op("Gemm", n.op("Transpose", flat), n.random(3, 4), transA=1))


@pytest.mark.parametrize(
    "fragment",
    [shared_weight, computed_weight, generated_weight, quantised_weight, stacked_weight,
     weight_on_the_left, activation_as_weight, transposed_input],
)  # fmt: skip
def test_a_layer_is_left_out_with(fragment: Callable[[Net, str], str]) -> None:
    n, x = image()
    assert layers_of(n.build(fragment(n, x))) == {}


def test_a_weight_that_is_an_output_too_stays_as_it_is() -> None:
    n, x = image()
    proto = n.build(weight_that_is_an_output(n, x))
    assert len(layers_of(proto)) == 1
    proto.graph.output.append(helper.make_tensor_value_info("kernel", 1, [4, 3, 3, 3]))
    assert layers_of(proto) == {}


def test_a_weight_behind_a_shared_view_is_left_out() -> None:
    n, x = image()
    w = n.op("Identity", n.random(3, 3, 3, 3))
    x = n.op("Conv", n.op("Conv", x, w, **PADS), w, **PADS)
    assert layers_of(n.build(x)) == {}


def test_a_layer_of_a_foreign_domain_is_left_out() -> None:
    n, x = image()
    n.op("Gemm", x, n.random(8, 4), domain="custom")
    assert layers_of(n.build(n.op("Relu", x))) == {}


# ---- what shifts them -------------------------------------------------------------------------


def test_a_bias_of_its_own_comes_before_the_mean_of_the_normalisation() -> None:
    n, x = image()
    y = n.conv(x, 4)
    layer = layers_of(n.build(n.bn(y)))[y]
    assert (layer.bias, layer.bias_sign, layer.bias_outside) == ("c1", 1.0, False)
    assert layer.norm is not None


def test_without_a_bias_the_mean_of_the_normalisation_is_one() -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    z = n.bn(y)
    layer = layers_of(n.build(z))[y]
    assert (layer.bias, layer.bias_sign, layer.bias_outside) == ("c3", -1.0, True)


def test_without_both_there_is_none() -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    assert layers_of(n.build(n.relu(y)))[y].bias == ""


def test_a_normalisation_that_is_not_the_only_reader_shifts_nothing() -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    layer = layers_of(n.build(n.op("Add", n.bn(y), y)))[y]
    assert layer.bias == ""
    assert layer.norm is None


def test_a_bias_that_cannot_move_is_not_replaced_by_a_mean() -> None:
    """The layer's output holds it already: the mean would count it twice."""
    n, x = image()
    shared = n.random(4)
    first = n.op("Conv", x, n.random(4, 3, 3, 3), shared, channels=4, **PADS)
    second = n.op("Conv", n.bn(first), n.random(4, 4, 3, 3), shared, channels=4, **PADS)
    found = layers_of(n.build(n.bn(second)))
    assert (found[first].bias, found[second].bias) == ("", "")


@pytest.mark.parametrize(("beta", "bias"), [(1.0, "b"), (2.0, "")])
def test_a_scaled_bias_of_a_gemm_is_none(beta: float, bias: str) -> None:
    n = Net()
    y = n.op("Gemm", n.input("N", 7), n.random(7, 5), n.random(5, name="b"), beta=beta, channels=5)
    z = n.bn(y)
    assert layers_of(n.build(z))[y].bias == bias


@pytest.mark.parametrize("statistics", ["computed", "trained"])
def test_a_normalisation_that_is_not_fixed_is_none(statistics: str) -> None:
    n, x = image()
    scale = n.positive(4)
    if statistics == "computed":  # from the input
        pooled = n.op("Squeeze", n.op("ReduceMean", x, axes=[0, 2, 3], keepdims=1))
        scale = n.op("Mul", scale, n.op("ReduceMax", pooled, keepdims=0))
    y = n.conv(x, 4, bias=False)
    operands = (scale, n.random(4), n.random(4), n.positive(4))
    trained = {"outputs": 3, "training_mode": 1} if statistics == "trained" else {}
    z = n.op("BatchNormalization", y, *operands, **trained)
    layer = layers_of(n.build(z[0] if trained else z))[y]
    assert (layer.norm, layer.bias) == (None, "")


@pytest.mark.parametrize("first", [True, False])
def test_an_add_behind_a_product_is_its_bias(first: bool) -> None:
    n = Net()
    y = n.op("MatMul", n.input("N", 7), n.random(7, 5))
    operands = (y, n.random(5, name="b"))
    proto = n.build(n.op("Add", *(operands if first else operands[::-1])))
    layer = layers_of(proto)[y]
    assert (layer.bias, layer.bias_outside) == ("b", True)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1)])
def test_an_add_behind_a_convolution_is_its_bias(shape: tuple[int, ...]) -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    out = n.op("Add", n.const(np.ones(shape), "b"), y)
    layer = layers_of(n.build(out))[y]
    assert (layer.bias, layer.bias_sign, layer.bias_outside) == ("b", 1.0, True)


def test_an_add_behind_an_identity_is_the_bias() -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    total = n.op("Add", n.op("Identity", y), n.random(1, 4, 1, 1, name="b"))
    coupling, found = landings(n.build(n.relu(total)))
    (layer,) = linear_layers(coupling)
    assert (layer.y, layer.bias, layer.bias_outside) == (y, "b", True)
    assert (found[y].value, found[y].rectified) == (total, True)


@pytest.mark.parametrize(
    ("stored", "bias"), [((4,), "b"), ((4, 1), "b"), ((1, 4, 1), "b"), ((2, 2), "")]
)
def test_a_bias_is_found_behind_a_reshape(stored: tuple[int, ...], bias: str) -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    b = n.op("Reshape", n.random(*stored, name="b"), n.const([1, 4, 1, 1]))
    assert layers_of(n.build(n.op("Add", y, b)))[y].bias == bias


def test_a_reshaped_constant_of_two_uses_is_no_bias() -> None:
    n, x = image()
    y = n.conv(x, 4, bias=False)
    b = n.op("Reshape", n.random(4, name="b"), n.const([1, 4, 1, 1]))
    out = n.op("Mul", n.op("Add", y, b), b)
    assert layers_of(n.build(out))[y].bias == ""


@pytest.mark.parametrize("shape", [(8,), (1, 1, 1, 8), (1, 1, 8, 1), (8, 8), (1, 8, 1, 8)])
def test_an_add_along_other_axes_of_a_convolution_is_none(shape: tuple[int, ...]) -> None:
    n, x = image()
    y = n.conv(x, 8, bias=False)
    assert layers_of(n.build(n.op("Add", y, n.const(np.ones(shape)))))[y].bias == ""


def test_an_add_behind_a_convolution_that_has_a_bias_is_none() -> None:
    n, x = image()
    y = n.conv(x, 4)
    layer = layers_of(n.build(n.op("Add", y, n.random(4, 1, 1))))[y]
    assert (layer.bias, layer.bias_outside) == ("c1", False)


@pytest.mark.parametrize("shape", [(), (1,), (5, 1)])
def test_an_add_that_is_no_row_of_outputs_is_none(shape: tuple[int, ...]) -> None:
    n = Net()
    y = n.op("MatMul", n.input("N", 5, 7), n.random(7, 5))
    proto = n.build(n.op("Add", y, n.const(np.ones(shape), "b")))
    assert layers_of(proto)[y].bias == ""


def test_an_add_behind_a_product_that_is_an_output_is_none() -> None:
    n = Net()
    y = n.op("MatMul", n.input("N", 7), n.random(7, 5))
    z = n.op("Add", y, n.random(5))
    assert layers_of(n.build(z))[y].bias != ""
    assert layers_of(n.build(y, z))[y].bias == ""


# ---- where they land --------------------------------------------------------------------------


def landings(proto: onnx.ModelProto) -> tuple[Coupling, dict[str, Landing]]:
    coupling = coupling_of(proto)
    walk = coupling.walk
    return coupling, {
        layer.y: landing(walk.graph, walk.constants, layer) for layer in linear_layers(coupling)
    }


def test_outputs_land_behind_the_normalisation_in_the_sum() -> None:
    """landing = scale y + shift + other, as the runtime computes it."""
    n, x = image()
    short = n.conv(x, 4, 1)
    y = n.conv(x, 4)
    total = n.op("Add", n.bn(y), short)
    coupling, found = landings(n.build(n.relu(total)))
    place = found[y]
    assert (place.value, place.other) == (total, short)
    probe = onnx.ModelProto()
    probe.CopyFrom(coupling.model.proto)
    probe.graph.output.extend(onnx.ValueInfoProto(name=v) for v in (y, short, total))
    feeds = {x: np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    with open_variant(probe, coupling.model) as session:
        made = run_session(session, feeds, [y, short, total])
    scale, shift = (v.reshape(1, -1, 1, 1) for v in (place.scale, place.shift))
    np.testing.assert_allclose(scale * made[y] + shift + made[short], made[total], atol=1e-4)
    # the shortcut's outputs land there too, unscaled
    assert (found[short].value, found[short].other) == (total, n.nodes[-3].output[0])
    assert (found[short].scale == 1).all()


@pytest.mark.parametrize("between", [(), ("Identity", "Identity")])
def test_outputs_land_behind_a_bias_that_is_added(between: tuple[str, ...]) -> None:
    n, x = image()
    short = n.conv(x, 4, 1)
    y = n.conv(x, 4, bias=False)
    z = n.op("Add", y, n.random(4, 1, 1))
    for op in between:
        z = n.op(op, z)
    total = n.op("Add", z, short)
    place = landings(n.build(n.relu(total)))[1][y]
    assert (place.value, place.other, place.rectified) == (total, short, True)


def test_an_identity_that_is_not_alone_is_not_passed() -> None:
    n, x = image()
    y = n.conv(x, 4)
    out = n.op("Add", n.relu(n.op("Identity", y)), n.op("Neg", y))
    place = landings(n.build(out))[1][y]
    assert (place.value, place.rectified) == (y, False)


def test_outputs_that_are_read_twice_land_where_they_are() -> None:
    n, x = image()
    y = n.conv(x, 4)
    total = n.op("Add", n.relu(y), n.op("Add", y, n.conv(x, 4, 1)))
    assert landings(n.build(total))[1][y].other == ""


def test_a_constant_is_no_other_operand() -> None:
    n, x = image()
    y = n.conv(x, 4)
    total = n.op("Add", y, n.random(1, 4, 1, 1))
    place = landings(n.build(total))[1][y]
    assert (place.value, place.other) == (y, "")


def test_a_graph_output_lands_where_it_is() -> None:
    n, x = image()
    y, short = n.conv(x, 4), n.conv(x, 4, 1)
    total = n.op("Add", y, short)
    assert landings(n.build(total))[1][y].other == short
    assert landings(n.build(total, y))[1][y].other == ""


def test_a_scale_of_nothing_divides_to_nothing() -> None:
    np.testing.assert_array_equal(1 / invertible(np.array([2.0, 0.0, -1e-9])), [0.5, 0.0, 0.0])


# ---- which inputs stay ------------------------------------------------------------------------


def test_kept_inputs_of_a_flattened_map_come_in_blocks() -> None:
    n, x = image(size=4)
    y = n.conv(x, 6)
    flat = n.op("Flatten", n.relu(y), axis=1)
    out = n.gemm(flat, 6 * 16, 5)
    coupling = coupling_of(n.build(out))
    layer = {layer.y: layer for layer in linear_layers(coupling)}[out]
    keep = np.ones(coupling.n_units, bool)
    keep[[1, 4]] = False
    found = kept_inputs(coupling, layer, keep).reshape(6, 16)
    np.testing.assert_array_equal(found, np.repeat(keep[:, None], 16, axis=1))


def test_downstream_follows_every_path_and_no_other() -> None:
    n, x = image()
    first, aside = n.conv(x, 4), n.conv(x, 4)
    second = n.relu(first)
    total = n.op("Add", second, aside)
    graph = coupling_of(n.build(total)).walk.graph
    assert downstream(graph, [first]) == {first, second, total}


def test_downstream_follows_what_a_subgraph_captures() -> None:
    n, x = image()
    y = n.relu(x)
    inner = helper.make_graph(
        [helper.make_node("Neg", [y], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    condition = n.const(True, dtype=bool)
    out = n.op("If", condition, then_branch=inner, else_branch=inner)
    graph = coupling_of(n.build(out, output_shape=["N", 3, 8, 8])).walk.graph
    assert out in downstream(graph, [y])
