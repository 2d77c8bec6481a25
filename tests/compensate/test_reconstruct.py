"""Repairs with a known answer: what others can stand in for is repaired, and nothing gets worse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from net_builder import Net, image
from nets import NETS
from onnx import TensorProto, numpy_helper

import onnx_scsp
from compensate.nets import Repair, coupling_of, double, images, repair, second_halves, without
from compensate.planted import COPIES, Planted, conv
from onnx_scsp.compensate import channels, reconstruct, sweep
from onnx_scsp.compensate.sweep import layers_to_refit
from onnx_scsp.couple import Coupling, find_coupling

EXACT, CLOSE, LOST = 1e-4, 6e-3, 0.03
"""With next to no ridge a repair is exact; the ridge that a user gets leaves a little."""


@pytest.fixture
def no_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sweep, channels):
        monkeypatch.setattr(module, "SHARES", (1e-10,))


# ---- copies -----------------------------------------------------------------------------------


def shape_of(proto: onnx.ModelProto) -> list[int]:
    return [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]


def repaired(planted: Planted, count: int = 64, **options: int) -> Repair:
    proto, value, gone = planted
    coupling = coupling_of(proto)
    size = 1 if proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1 else 16
    batches = images(count, *shape_of(proto), size=size)
    return repair(coupling, without(coupling, value, gone), batches, **options)


def fixed_batch(proto: onnx.ModelProto) -> onnx.ModelProto:
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return proto


def half_precision(proto: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return proto


@pytest.mark.usefixtures("no_ridge")
@pytest.mark.parametrize("name", COPIES)
def test_copies_are_made_up_for_by(name: str) -> None:
    found = repaired(COPIES[name](), 256 if "gemm" in name or "matmul" in name else 32)
    assert found.after < EXACT < LOST < found.before


@pytest.mark.parametrize("name", ["conv", "normed_reader", "gated"])
def test_a_model_of_batch_one_is_repaired_alike(name: str) -> None:
    proto, value, gone = COPIES[name]()
    found = repaired((fixed_batch(proto), value, gone), 64)
    assert found.after < CLOSE < LOST < found.before


@pytest.mark.parametrize("name", ["conv", "normed_reader"])
def test_half_precision_is_repaired_and_stays(name: str) -> None:
    proto, value, gone = COPIES[name]()
    coupling = coupling_of(half_precision(proto))
    batches = [{"x": batch["x"].astype(np.float16)} for batch in images(64, *shape_of(proto))]
    found = repair(coupling, without(coupling, value, gone), batches)
    assert {array.dtype for array in found.found.weights.values()} == {np.dtype(np.float16)}
    assert found.after < 2e-2 < LOST < found.before


def test_external_weights_are_repaired_alike(tmp_path: Path) -> None:
    proto, value, gone = conv()
    onnx.save(
        proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="w.bin"
    )
    coupling = find_coupling(onnx_scsp.load(tmp_path / "m.onnx"))
    assert coupling.model.external_files
    found = repair(coupling, without(coupling, value, gone), images(64))
    assert found.after < CLOSE < LOST < found.before
    inside = repaired(conv(), 64).found.weights
    for name, array in found.found.weights.items():
        np.testing.assert_array_equal(array, inside[name])


def unplanted(name: str) -> Planted:
    """The same network, every weight drawn anew."""
    proto, value, gone = COPIES[name]()
    rng = np.random.default_rng(3)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim > 1:
            fresh = rng.permutation(array.reshape(-1)).reshape(array.shape)
            tensor.CopyFrom(numpy_helper.from_array(fresh, tensor.name))
    return proto, value, gone


@pytest.mark.parametrize("name", ["conv", "grouped", "conv_transpose", "residual"])
def test_without_copies_something_is_lost_and_less_than_before(name: str) -> None:
    found = repaired(unplanted(name), 64)
    assert 5 * CLOSE < found.after < found.before


# ---- combinations -----------------------------------------------------------------------------


def combined(shift: float, k: int = 1) -> Planted:
    """No ReLU: the second half is a mix of the first half, and a constant."""
    n, x = image()
    y = n.conv(x, 8)
    node = n.nodes[-1]
    weight, bias = (n.weights[name] for name in node.input[1:3])
    mix = n.rng.standard_normal((4, 4)).astype(np.float32)
    weight[4:] = np.einsum("ij,jkhw->ikhw", mix, weight[:4])
    bias[4:] = mix @ bias[:4] + shift
    return n.build(n.relu(n.conv(y, 6, k))), y, second_halves(8)


@pytest.mark.usefixtures("no_ridge")
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_combinations_are_made_up_for_and_their_shift_goes_into_the_bias(shift: float) -> None:
    found = repaired(combined(shift))
    assert found.after < EXACT < LOST < found.before


@pytest.mark.usefixtures("no_ridge")
def test_a_shift_at_a_padded_border_cannot_be_made_up_for() -> None:
    assert repaired(combined(0.0, 3)).after < EXACT < repaired(combined(3.0, 3)).after


# ---- residual sums ----------------------------------------------------------------------------


def two_ways(between: str | None = None, *, normed: bool = False) -> tuple[Coupling, np.ndarray]:
    """What the first way loses is a linear map of what the second way still sees.

    Both ways start behind copies, one of each goes: only then is the second way behind the cut.
    """
    n, x = image()
    start = n.conv(x, 8, 1)
    double(n, start)
    y = n.conv(start, 8, 1)
    first = n.conv(y, 6, 1)
    second = n.bn(n.conv(start, 6, 1, bias=False)) if normed else n.conv(start, 6, 1)
    joined = n.op(between, second) if between else second
    coupling = coupling_of(n.build(n.relu(n.op("Add", first, joined))))
    copies = without(coupling, start, second_halves(8))
    return coupling, copies & without(coupling, y, np.arange(8) != 0)


@pytest.mark.usefixtures("no_ridge")
def test_a_layer_makes_up_for_what_the_other_way_lost() -> None:
    found = repair(*two_ways(), images(64))
    assert found.after < EXACT < LOST < found.before


@pytest.mark.usefixtures("no_ridge")
def test_a_layer_that_does_not_reach_the_sum_cannot() -> None:
    assert repair(*two_ways("Neg"), images(64)).after > LOST


@pytest.mark.usefixtures("no_ridge")
def test_an_identity_on_the_way_to_the_sum_is_passed() -> None:
    assert repair(*two_ways("Identity"), images(64)).after < EXACT


def biased_by(shape: tuple[int, ...] | None) -> tuple[Coupling, np.ndarray]:
    """A layer behind copies whose bias, if it has one, a node of its own adds."""
    n, x = image()
    y = n.conv(x, 8, 1)
    double(n, y)
    z = n.op("Conv", y, n.random(6, 8, 1, 1), channels=6)
    z = z if shape is None else n.op("Add", z, n.const(n.rng.standard_normal(shape), "shift"))
    coupling = coupling_of(n.build(n.relu(z)))
    return coupling, without(coupling, y, second_halves(8))


@pytest.mark.usefixtures("no_ridge")
@pytest.mark.parametrize("shape", [None, (1, 6, 1, 1), (6, 1, 1)])
@pytest.mark.parametrize("by_channel", [False, True])
def test_a_layer_without_a_bias_of_its_own_is_repaired(
    shape: tuple[int, ...] | None, by_channel: bool
) -> None:
    found = repair(*biased_by(shape), images(64), by_channel=by_channel)
    assert found.after < EXACT < LOST < found.before
    assert ("shift" in found.found.weights) == (shape is not None)


@pytest.mark.usefixtures("no_ridge")
def test_a_normalisation_before_the_sum_is_divided_out() -> None:
    found = repair(*two_ways(normed=True), images(64))
    assert found.after < EXACT < LOST < found.before


@pytest.mark.parametrize("rectified", [True, False])
def test_an_operand_of_another_shape_is_left_out_of_the_sum(rectified: bool) -> None:
    n, x = image()
    start = n.conv(x, 8)
    context = n.op("GlobalAveragePool", n.conv(n.relu(start), 6, 1))
    total = n.op("Add", context, n.conv(n.relu(start), 6, 1))
    coupling = coupling_of(n.build(n.conv(n.relu(total) if rectified else total, 4)))
    found = repair(coupling, without(coupling, start, np.arange(8) > 3), images(32))
    assert len(found.found.fits) == 3
    never_worse(found)


# ---- never worse ------------------------------------------------------------------------------


def never_worse(found: Repair) -> None:
    assert found.found.fits
    assert all(0 <= fit.after <= fit.before for fit in found.found.fits)
    assert all((fit.share is None) == (fit.after == fit.before) for fit in found.found.fits)


def half(coupling: Coupling) -> np.ndarray:
    """Every second unit stays, and the rest of what is tied in groups of four."""
    return np.arange(coupling.n_units) % 4 < 2


@pytest.mark.parametrize(
    "name",
    ["residual_projection", "concat_branches", "squeeze_excite_gemm", "depthwise_separable",
     "conv_transpose_grouped", "matmul_over_positions", "nhwc", "shared_bias"],
)  # fmt: skip
def test_no_layer_is_worse_on_held_out_samples(name: str) -> None:
    coupling = coupling_of(NETS[name]())
    never_worse(repair(coupling, half(coupling), images(24, *shape_of(coupling.model.proto))))


@pytest.mark.parametrize("count", [1, 2, 7, 9])
def test_few_samples_are_enough_to_be_no_worse(count: int) -> None:
    coupling = coupling_of(NETS["plain_bn"]())
    never_worse(repair(coupling, half(coupling), images(count)))


def opposed(sign: float) -> Repair:
    """The second channel is the first one; on held-out samples it is `sign` times the first."""
    n = Net()
    x = n.input("N", 2, 4, 4)
    y = n.op("Conv", x, n.const(np.eye(2).reshape(2, 2, 1, 1)), n.const(np.zeros(2)), channels=2)
    out = n.op("Conv", y, n.random(3, 2, 1, 1), n.random(3), channels=3)
    coupling = coupling_of(n.build(out))
    (batch,) = images(64, 2, 4, 4, size=64)
    held = np.arange(64) % 8 == 7
    batch["x"][:, 1] = np.where(held, sign, 1.0)[:, None, None] * batch["x"][:, 0]
    return repair(coupling, without(coupling, y, [1]), [batch])


def test_a_fit_that_held_out_samples_contradict_is_not_taken() -> None:
    found = opposed(-1.0).found
    assert found.weights == {}
    assert [fit.share for fit in found.fits] == [None]
    agreed = opposed(1.0).found
    assert set(agreed.weights) == {"c2", "c3"}
    assert agreed.fits[0].after < 1e-6 < agreed.fits[0].before


def test_a_cut_that_loses_nothing_changes_nothing() -> None:
    n, x = image()
    y = n.conv(x, 8)
    out = n.conv(n.relu(y), 4)
    n.weights[n.nodes[-1].input[1]][:, 5:] = 0.0
    coupling = coupling_of(n.build(out))
    found = repair(coupling, without(coupling, y, [5, 6, 7]), images(32))
    assert found.found.weights == {}
    assert found.before == found.after == 0.0


def test_no_cut_no_repair() -> None:
    coupling = coupling_of(NETS["plain_bn"]())
    found = reconstruct(coupling, np.ones(coupling.n_units, bool), images(8), 8)
    assert (found.weights, found.fits) == ({}, ())


def test_inputs_that_never_change_leave_finite_weights() -> None:
    coupling = coupling_of(NETS["plain_bn"]())
    batches = [{"x": np.zeros((8, 3, 8, 8), np.float32)}] * 3
    found = reconstruct(coupling, half(coupling), batches, 24)
    assert all(np.isfinite(array).all() for array in found.weights.values())


# ---- which layers -----------------------------------------------------------------------------


def names(coupling: Coupling, keep: np.ndarray) -> list[str]:
    return [layer.y for layer in layers_to_refit(coupling, keep)]


def test_layers_before_and_beside_the_cut_stay() -> None:
    n, x = image()
    first = n.conv(x, 8)
    second = n.conv(n.relu(first), 8)
    third = n.conv(n.relu(second), 8)
    beside = n.conv(n.relu(first), 4)
    last = n.conv(n.concat(n.relu(third), n.relu(beside)), 4)
    coupling = coupling_of(n.build(last))
    assert names(coupling, without(coupling, second, [0])) == [third, last]
    assert names(coupling, without(coupling, third, [0])) == [last]
    assert names(coupling, np.ones(coupling.n_units, bool)) == []


def test_of_layers_with_a_shared_bias_the_weights_are_refitted() -> None:
    n, x = image()
    y = n.conv(x, 8)
    shared = n.random(6)
    first = n.op("Conv", n.relu(y), n.random(6, 8, 1, 1), shared, channels=6)
    second = n.op("Conv", n.relu(first), n.random(6, 6, 1, 1), shared, channels=6)
    coupling = coupling_of(n.build(n.conv(n.relu(second), 4)))
    keep = without(coupling, y, [0])
    found = repair(coupling, keep, images(64))
    never_worse(found)
    assert shared not in found.found.weights
    assert {n.nodes[2].input[1], n.nodes[4].input[1]} <= set(found.found.weights)


def test_a_bias_that_stands_fast_is_no_target_of_the_weights() -> None:
    """Half of a doubled channel goes: its twin makes up for it exactly, beside a large bias."""
    n, x = image()
    y = n.conv(x, 4)
    n.weights[n.nodes[-1].input[1]][1] = n.weights[n.nodes[-1].input[1]][0]
    n.weights[n.nodes[-1].input[2]][1] = n.weights[n.nodes[-1].input[2]][0]
    large = n.const(np.full(6, 50.0))
    first = n.op("Conv", n.relu(y), n.random(6, 4, 1, 1), large, channels=6)
    second = n.op("Conv", n.relu(first), n.random(6, 6, 1, 1), large, channels=6)
    coupling = coupling_of(n.build(second))
    found = repair(coupling, without(coupling, y, [1]), images(64))
    assert found.found.fits[0].after < 1e-6 < found.found.fits[0].before


def test_a_layer_whose_bias_is_computed_stays() -> None:
    n, x = image(size=8)
    y = n.conv(x, 8)
    made = n.op("ReduceMean", x, axes=[0, 1, 2], keepdims=0)
    first = n.op("Conv", n.relu(y), n.random(8, 8, 1, 1), made, channels=8)
    out = n.conv(n.relu(first), 4)
    coupling = coupling_of(n.build(out))
    assert names(coupling, without(coupling, y, [0])) == [out]


def test_a_layer_of_too_many_inputs_stays() -> None:
    n, x = image(size=16)
    y = n.conv(x, 26)
    wide = n.gemm(n.op("Flatten", n.relu(y)), 26 * 256, 8)
    out = n.gemm(n.relu(wide), 8, 5)
    coupling = coupling_of(n.build(out))
    assert names(coupling, without(coupling, y, [0])) == [out]


def test_groups_lose_equally_many_inputs() -> None:
    n, x = image()
    y = n.conv(x, 8)
    grouped_out = n.conv(n.relu(y), 8, groups=2)
    out = n.conv(n.relu(grouped_out), 4)
    coupling = coupling_of(n.build(out))
    assert names(coupling, without(coupling, y, [0, 4])) == [grouped_out, out]


# ---- the same again ---------------------------------------------------------------------------


def test_the_weights_keep_shape_and_type_and_are_those_of_the_refitted_layers() -> None:
    coupling = coupling_of(NETS["residual_projection"]())
    keep = half(coupling)
    before = coupling.model.proto.SerializeToString()
    found = reconstruct(coupling, keep, images(24), 24)
    constants = coupling.walk.constants
    layers = layers_to_refit(coupling, keep)
    assert [fit.node for fit in found.fits] == [layer.node.name for layer in layers]
    allowed = {name for layer in layers for name in (layer.weight, layer.bias)}
    assert set(found.weights) <= allowed
    for name, array in found.weights.items():
        assert array.shape == constants.shape(name)
        assert array.dtype == constants.array(name).dtype
    assert coupling.model.proto.SerializeToString() == before


def test_the_same_seed_gives_the_same_bits_and_the_shelf_does_not_matter() -> None:
    coupling = coupling_of(NETS["residual_projection"]())
    runs = [
        reconstruct(coupling, half(coupling), images(24), 24, seed=seed, shelf_bytes=limit)
        for seed, limit in ((1, 1 << 30), (1, 0), (1, 20_000))
    ]
    for run in runs[1:]:
        assert run.fits == runs[0].fits
        for name, array in runs[0].weights.items():
            np.testing.assert_array_equal(run.weights[name], array)


def test_progress_runs_from_nothing_to_everything() -> None:
    coupling = coupling_of(NETS["plain_bn"]())
    seen: list[tuple[int, int]] = []
    reconstruct(
        coupling, half(coupling), images(8), 8,
        progress=lambda _what, done, total: seen.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in seen] == list(range(seen[0][1] + 1))
