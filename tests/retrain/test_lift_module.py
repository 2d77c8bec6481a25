"""The lifted module itself: names, roles, modes, errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from net_builder import Net, image  # noqa: E402

from onnx_scsp.errors import ModelError, UnsupportedError  # noqa: E402
from onnx_scsp.graph.load import from_proto  # noqa: E402
from onnx_scsp.retrain.lift import Lifted, decode, encode, lift, missing_operators  # noqa: E402
from retrain.lift_case import case, noise  # noqa: E402
from retrain.running import apart, feeds_of, in_torch, runtime  # noqa: E402


def small() -> tuple[Lifted, Net]:
    n, x = image()
    y = n.relu(n.conv(x, 4))
    model = from_proto(n.build(n.head(y)))
    return lift(model), n


def parameters(lifted: Lifted) -> set[str]:
    return {n for n, tensor in lifted.constants.items() if isinstance(tensor, torch.nn.Parameter)}


def single(case_) -> Lifted:
    return lift(case_.model())


def test_every_stored_constant_is_there_in_its_own_shape() -> None:
    lifted, net = small()
    assert {name: tuple(t.shape) for name, t in lifted.constants.items()} == {
        name: array.shape for name, array in net.weights.items()
    }
    for name, array in net.weights.items():
        np.testing.assert_array_equal(lifted.constants[name].detach().numpy(), array)


def test_the_keys_of_the_state_dict_are_the_names_of_the_constants() -> None:
    lifted, net = small()
    keys = [key.removeprefix("store.") for key in lifted.state_dict()]
    assert {decode(key) for key in keys} == set(net.weights)
    assert len(keys) == len(net.weights)


@pytest.mark.parametrize(
    "name", ["a.b.c", "/x/y_output_0", "100%", "a%2Eb", "float", "training", "ü.1"]
)
def test_names_survive_the_way_there_and_back(name: str) -> None:
    assert decode(encode(name)) == name
    assert "." not in encode(name)
    assert not hasattr(torch.nn.Module(), encode(name))


def test_a_state_dict_can_be_loaded_into_another_lift() -> None:
    lifted, _ = small()
    other, _ = small()
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1.0)
    other.load_state_dict(lifted.state_dict())
    assert all((a == b).all() for a, b in zip(lifted.parameters(), other.parameters(), strict=True))


def test_weights_are_parameters_and_arithmetic_is_not() -> None:
    n, x = image()
    y = n.op("Mul", n.conv(x, 4), n.const(0.5, "half"))
    y = n.op("Add", y, n.random(4, 1, 1, name="bias"))
    y = n.op("Add", y, n.random(1, 4, 8, 8, name="grid")) if n.channels[x] else y
    y = n.op("Reshape", y, n.const([0, -1], "shape"))
    lifted = lift(from_proto(n.build(y)))
    assert "bias" in parameters(lifted)
    assert parameters(lifted).isdisjoint({"half", "grid", "shape"})


def test_a_constant_on_a_raw_input_is_no_parameter() -> None:
    n, x = image()
    y = n.op("Sub", x, n.random(n.channels[x], 1, 1, name="mean"))
    n.channels[y] = n.channels[x]
    lifted = lift(from_proto(n.build(n.conv(y, 4))))
    assert "mean" not in parameters(lifted)


@pytest.mark.parametrize("axes", ["attribute", "operand"])
def test_a_spelled_out_layer_norm_has_its_scale_and_bias(axes: str) -> None:
    n = Net(18 if axes == "operand" else 17)
    x = n.op("Reshape", n.input("N", 4, 8), n.const([0, 2, 16]))
    mean = (
        n.op("ReduceMean", x, n.const([-1]))
        if axes == "operand"
        else n.op("ReduceMean", x, axes=[-1])
    )
    y = n.op("Div", n.op("Sub", x, mean), n.const(2.0))
    y = n.op("Add", n.op("Mul", y, n.random(16, name="scale")), n.random(16, name="bias"))
    assert parameters(lift(from_proto(n.build(y)))) == {"scale", "bias"}


def test_a_shared_weight_is_one_parameter() -> None:
    n = Net()
    x = n.input("N", 4, 8, 8)
    w = n.random(4, 4, 3, 3, name="shared")
    y = n.op("Conv", n.op("Conv", x, w), w)
    lifted = lift(from_proto(n.build(y)))
    assert [decode(key) for key, _ in lifted.store.named_parameters()] == ["shared"]


def test_gradients_go_through_operators_on_weights() -> None:
    n = Net()
    x = n.input("N", 4, 8, 8)
    raw = n.random(3, 3, 4, 4, name="raw")
    w = n.op("Transpose", n.op("Identity", raw), perm=[3, 2, 0, 1])
    centred = n.op("Sub", w, n.op("ReduceMean", w, axes=[1, 2, 3]))
    model = from_proto(n.build(n.op("Conv", x, centred)))
    lifted, feeds = lift(model), feeds_of(model)
    assert apart(in_torch(lifted, feeds), runtime(model, feeds)) <= 1e-5
    lifted(torch.from_numpy(feeds["x"]))[0].square().sum().backward()
    assert float(lifted.constants["raw"].grad.abs().sum()) > 0


def normed(momentum: float) -> Lifted:
    x = noise(6, 4, 5, 5)
    moments = (np.ones(4), np.zeros(4), np.arange(4.0), np.full(4, 2.0))
    arrays = [array.astype(np.float32) for array in moments]
    return single(case("BatchNormalization", x, *arrays, stored=(1, 2, 3, 4), momentum=momentum))


def test_batch_normalisation_trains_on_the_batch() -> None:
    lifted = normed(0.9).train()
    y = lifted(torch.from_numpy(noise(6, 4, 5, 5) * 3 + 5))[0].detach()
    assert float(y.mean().abs()) < 1e-4
    assert abs(float(y.var(correction=0)) - 1) < 1e-2


def test_running_statistics_follow_onnx_momentum() -> None:
    lifted, x = normed(0.75).train(), noise(6, 4, 5, 5) * 3 + 5
    lifted(torch.from_numpy(x))
    mean, variance = (lifted.constants[name].numpy() for name in ("x3", "x4"))
    columns = np.moveaxis(x, 1, -1).reshape(-1, 4)
    np.testing.assert_allclose(mean, 0.75 * np.arange(4) + 0.25 * columns.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.75 * 2 + 0.25 * columns.var(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("switch", ["eval", "batch_statistics"])
def test_running_statistics_rest_where_they_are_told_to(switch: str) -> None:
    lifted = normed(0.75).train()
    if switch == "eval":
        lifted.eval()
    else:
        lifted.batch_statistics = False
    lifted(torch.from_numpy(noise(6, 4, 5, 5) * 3 + 5))
    np.testing.assert_array_equal(lifted.constants["x3"].numpy(), np.arange(4))


def test_statistics_that_an_exporter_stored_once_run_apart() -> None:
    n = Net()
    x = n.input("N", 4, 8, 8)
    zero, one = n.const(np.zeros(4), "zero"), n.const(np.ones(4), "one")
    first = n.op("BatchNormalization", x, one, zero, n.op("Identity", zero), n.op("Identity", one))
    y = n.op(
        "BatchNormalization", n.op("Add", first, n.const(3.0)), one, zero,
        n.op("Identity", zero), n.op("Identity", one),
    )  # fmt: skip
    lifted = lift(from_proto(n.build(y))).train()
    lifted(torch.from_numpy(noise(6, 4, 8, 8)))
    means = [t.mean().item() for name, t in lifted.running.items() if "identity" in name]
    assert len(means) == 4
    assert np.ptp([round(m, 3) for m in means]) > 0.2
    assert float(lifted.constants["zero"].detach().abs().sum()) == 0


def test_dropout_drops_in_training_alone() -> None:
    lifted, x = single(case("Dropout", noise(50, 50))), torch.from_numpy(noise(50, 50))
    assert (lifted(x)[0] == x).all()
    torch.manual_seed(0)
    assert 0.4 < float((lifted.train()(x)[0] == 0).float().mean()) < 0.6


def test_taps_return_values_on_the_way() -> None:
    n, x = image()
    inner = n.conv(x, 4)
    model = from_proto(n.build(n.head(n.relu(inner))))
    lifted, feeds = lift(model), feeds_of(model)
    found = lifted.run({"x": torch.from_numpy(feeds["x"])}, taps=[inner, "x"])
    assert set(found) == {*lifted.output_names, inner, "x"}
    assert found[inner].shape[1] == 4


def test_a_tap_that_is_no_value_is_refused() -> None:
    lifted, _ = small()
    with pytest.raises(ModelError, match="'nothing'"):
        lifted.run({"x": torch.zeros(1, 3, 16, 16)}, taps=["nothing"])


def test_the_number_of_inputs_is_checked() -> None:
    lifted, _ = small()
    with pytest.raises(ModelError, match="1 inputs"):
        lifted()


def test_a_missing_operator_is_named_with_its_node_and_what_to_do() -> None:
    model = case("Det", noise(2, 3, 3)).model()
    assert missing_operators(model) == ("Det",)
    with pytest.raises(UnsupportedError, match=r"node .*: operator Det .*CONTRIBUTING"):
        lift(model)


def test_an_unsupported_form_of_an_operator_is_named() -> None:
    lifted = lift(
        case("MaxPool", noise(1, 1, 4, 4), kernel_shape=[2, 2], storage_order=1, outputs=2).model()
    )
    with pytest.raises(UnsupportedError, match="storage_order"):
        lifted(torch.zeros(1, 1, 4, 4))


def test_a_copy_has_weights_of_its_own() -> None:
    lifted, _ = small()
    twin = copy.deepcopy(lifted)
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert (next(twin.parameters()) != next(lifted.parameters())).all()


def test_functions_of_the_file_are_written_out() -> None:
    import onnx
    from onnx import helper

    body = helper.make_function(
        "own", "Twice", ["a"], ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[body])
    proto.ir_version = 8
    lifted = lift(from_proto(proto))
    assert (lifted(torch.ones(2, 3))[0] == 2).all()
