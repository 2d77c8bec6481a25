"""What calibration inputs say about pools: who reads them, who goes, what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
import pytest
from compensate.nets import coupling_of, double, images, second_halves
from net_builder import Net, image
from nets import NETS

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.observe import Evidence, PoolEvidence, evidence, gather_evidence, statistics
from onnx_scsp.observe.elimination import eliminate
from onnx_scsp.observe.layers import input_units
from onnx_scsp.observe.reads import reads_of
from onnx_scsp.observe.statistics import collect, held_out, positions_per_sample
from onnx_scsp.observe.weights import WorkingCopy
from onnx_scsp.plan.cost import make_pools
from onnx_scsp.types import IntArray


def pools_of(coupling: Coupling) -> list[IntArray]:
    return [pool.global_units for pool in make_pools(coupling, 1, 0.1)]


def batches_for(coupling: Coupling, count: int = 32) -> list[dict[str, np.ndarray]]:
    dims = coupling.model.proto.graph.input[0].type.tensor_type.shape.dim
    return images(count, *(dim.dim_value for dim in dims[1:]))


def gather(coupling: Coupling, *, measured: bool = True, count: int = 32) -> Evidence:
    batches = batches_for(coupling, count)
    return gather_evidence(coupling, pools_of(coupling), batches, count, measured=measured)


def only(coupling: Coupling, *, measured: bool = True, count: int = 32) -> PoolEvidence:
    (found,) = gather(coupling, measured=measured, count=count).pools
    assert found is not None
    return found


def values_of(coupling: Coupling, names: list[str], count: int = 32) -> dict[str, np.ndarray]:
    """Activations over all samples."""
    probe = onnx.ModelProto()
    probe.CopyFrom(coupling.model.proto)
    present = {output.name for output in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    with open_variant(probe, coupling.model) as session:
        runs = [run_session(session, batch, names) for batch in batches_for(coupling, count)]
    return {name: np.concatenate([run[name] for run in runs]) for name in names}


# ---- curves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["residual_projection", "grouped", "concat_branches", "squeeze_excite_conv", "conv3d"]
)
def test_damage_grows_as_units_go_and_is_nothing_when_all_stay(name: str) -> None:
    coupling = coupling_of(NETS[name]())
    for units, found in zip(pools_of(coupling), gather(coupling).pools, strict=True):
        assert found is not None
        size = units.size
        assert sorted(found.order.tolist()) == list(range(size))
        for curve in (found.local, found.damage):
            assert curve.shape == (size + 1,)
            assert curve[size] == 0.0
            assert np.isfinite(curve).all()
            assert (np.diff(curve) <= 1e-9).all()
        assert found.damage[1] > 0


def planted() -> tuple[Coupling, np.ndarray]:
    """One pool of copies, and the rows of it that are pairs."""
    n, x = image()
    y = n.conv(x, 8)
    double(n, y)
    coupling = coupling_of(n.build(n.conv(n.relu(y), 4)))
    units = input_units(coupling, y, 8, 1)
    return coupling, np.array([np.flatnonzero(pools_of(coupling)[0] == u)[0] for u in units])


@pytest.mark.parametrize("measured", [True, False])
def test_one_of_every_pair_of_copies_goes_first_and_for_free(measured: bool) -> None:
    coupling, rows = planted()
    found = only(coupling, measured=measured)
    pairs = {int(row): place % 4 for place, row in enumerate(rows)}
    assert second_halves(8).sum() == 4
    assert len({pairs[int(row)] for row in found.order[:4]}) == 4
    assert found.local[4] < 0.02 * found.local[3]
    assert found.damage[4] < 0.05 * found.damage[3]


def test_without_copies_the_first_half_is_not_free() -> None:
    n, x = image()
    found = only(coupling_of(n.build(n.conv(n.relu(n.conv(x, 8)), 4))))
    assert found.local[4] > 0.1 * found.local[3]


def test_a_measurement_that_fewer_units_do_better_in_is_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coupling, _, _ = stack()  # measured at 3, 4, 6 and 7 of 8 units, the narrowest first
    answers = iter([0.1, 0.5, 0.2, 0.05])
    monkeypatch.setattr(evidence.Judge, "divergence", lambda *_: next(answers))
    found = only(coupling)
    at = [3, 4, 6, 7, 8]
    np.testing.assert_allclose(found.damage[at], [0.5, 0.5, 0.2, 0.05, 0.0], rtol=1e-9)
    # below the narrowest along the local error
    np.testing.assert_allclose(
        found.damage[1:3] / found.local[1:3], 0.5 / found.local[3], rtol=1e-9
    )


def test_between_two_measurements_damage_grows_as_the_local_error_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coupling, _, _ = stack()
    answers = iter([0.5, 0.4, 0.2, 0.05])  # at 3, 4, 6 and 7 of 8 units
    monkeypatch.setattr(evidence.Judge, "divergence", lambda *_: next(answers))
    found = only(coupling)
    share = (found.local[5] - found.local[6]) / (found.local[4] - found.local[6])
    assert 0 < share < 1
    assert found.damage[5] == pytest.approx(0.2 + share * (0.4 - 0.2), rel=1e-9)


def test_damage_after_the_repair_takes_the_place_of_the_measurement() -> None:
    coupling, _, _ = stack()
    asked: list[np.ndarray] = []

    def after(keeps: Sequence[np.ndarray], _: object) -> list[float]:
        asked.extend(keeps)
        return [0.3, 0.1]

    batches = batches_for(coupling)
    pools = pools_of(coupling)
    (found,) = gather_evidence(coupling, pools, batches, 32, after=after).pools
    assert found is not None
    gone = [set(pools[0][found.order[: 8 - left]].tolist()) for left in (4, 6)]
    assert [set(np.flatnonzero(~keep).tolist()) for keep in asked] == gone
    np.testing.assert_allclose(found.damage[[4, 6, 8]], [0.3, 0.1, 0.0], rtol=1e-9)
    np.testing.assert_array_equal(found.local, only(coupling).local)


def test_without_measurements_damage_is_the_local_error() -> None:
    coupling, _ = planted()
    found = only(coupling, measured=False)
    np.testing.assert_array_equal(found.damage, found.local)
    assert (only(coupling).damage[1:4] != found.local[1:4]).all()


def test_the_same_seed_gives_the_same_evidence() -> None:
    coupling = coupling_of(NETS["residual_identity"]())
    first, second = gather(coupling), gather(coupling)
    for a, b in zip(first.pools, second.pools, strict=True):
        assert a is not None
        assert b is not None
        np.testing.assert_array_equal(a.order, b.order)
        np.testing.assert_array_equal(a.damage, b.damage)


def test_a_model_of_batch_one_gives_evidence() -> None:
    n, x = image()
    n.inputs[0].type.tensor_type.shape.dim[0].dim_value = 1
    coupling = coupling_of(n.build(n.head(n.block(n.block(x, 8), 12))))
    batches = images(24, size=1)
    found = gather_evidence(coupling, pools_of(coupling), batches, 24)
    assert all(pool is not None and pool.damage[1] > 0 for pool in found.pools)


# ---- against a direct computation -------------------------------------------------------------


def stack() -> tuple[Coupling, str, str]:
    """x -> Gemm -> ReLU -> Gemm, the reader's input and its weight."""
    n = Net()
    hidden = n.relu(n.gemm(n.input("N", 6), 6, 8))
    out = n.gemm(hidden, 8, 5)
    return coupling_of(n.build(out)), hidden, out


def test_the_local_error_is_that_of_the_best_repair() -> None:
    """Least squares on the activations themselves, with some units left out."""
    count = 400
    coupling, hidden, out = stack()
    values = values_of(coupling, [hidden, out], count)
    found = only(coupling, measured=False, count=count)
    train = ~held_out(0, count)
    units = input_units(coupling, hidden, 8, 1) - pools_of(coupling)[0][0]
    variance = values[out].astype(float).var(axis=0).sum()
    for left in (2, 4, 6):
        kept = ~np.isin(units, found.order[: 8 - left])
        design = np.concatenate([values[hidden][train][:, kept], np.ones((train.sum(), 1))], 1)
        target = values[out][train].astype(float)
        gap = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
        assert found.local[left] == pytest.approx(
            np.square(gap).sum() / train.sum() / variance, rel=0.05
        )


def test_the_measured_part_is_what_the_repaired_cut_does_to_the_output() -> None:
    """With four of eight units: KL divergence of the scores, computed here."""
    coupling, _, out = stack()
    found = only(coupling)
    level = 4
    (read,) = reads_of(
        coupling, pools_of(coupling)[0], collect(coupling, batches_for(coupling), 32)
    )
    way = eliminate([read], 8, [level])
    weight = way.snapshots[level][0]
    copy = WorkingCopy(coupling.model, coupling.walk.constants)
    bias = copy.bias(read.layer) + read.mean @ (read.weight - weight)
    copy.set_matrix(read.layer, weight[None])
    copy.set_bias(read.layer, bias)
    before = values_of(coupling, [out])[out].astype(float)
    with open_variant(copy.proto, coupling.model) as session:
        runs = [run_session(session, batch, [out])[out] for batch in batches_for(coupling)]
    after = np.concatenate(runs).astype(float)
    p, q = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (before, after))
    divergence = (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
    assert found.damage[level] == pytest.approx(divergence, rel=1e-3)


def test_covariance_and_mean_are_those_of_the_inputs() -> None:
    coupling, hidden, _ = stack()
    found = collect(coupling, batches_for(coupling), 32)
    rows = values_of(coupling, [hidden])[hidden][~held_out(0, 32)].astype(float)
    last = max(found)
    covariance, mean = found[last].train.moments(0)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(rows.T, bias=True), atol=1e-4)


# ---- who reads --------------------------------------------------------------------------------


def test_every_group_of_a_grouped_layer_reads_its_own_units() -> None:
    n, x = image()
    y = n.conv(x, 16)
    z = n.conv(n.relu(y), 8, groups=4)
    coupling = coupling_of(n.build(n.conv(n.relu(z), 4)))
    (units,) = [u for u in pools_of(coupling) if u[0] in input_units(coupling, y, 16, 1)]
    found = collect(coupling, images(16), 16)
    reads = [r for r in reads_of(coupling, units, found) if r.layer.y == z]
    assert [read.group for read in reads] == [0, 1, 2, 3]
    owners = input_units(coupling, y, 16, 1).reshape(4, 4) - units[0]
    for group, read in enumerate(reads):
        assert set(read.inputs) == set(owners[group].tolist())
        for row, places in read.inputs.items():
            (channels,) = np.nonzero(owners[group] == row)
            expected = [9 * c + tap for c in channels for tap in range(9)]
            assert sorted(places.tolist()) == expected
        assert read.covariance.shape == (36, 36)
        assert read.weight.shape == (36, 2)


def test_all_readers_of_a_spine_are_counted_and_depthwise_filters_are_none() -> None:
    n, x = image()
    y = n.conv(x, 8)
    branch = n.conv(n.relu(n.conv(n.relu(y), 6)), 8)
    spine = n.relu(n.op("Add", y, branch))
    passed = n.relu(n.depthwise(spine))
    out = n.conv(passed, 4, 1)
    coupling = coupling_of(n.build(out))
    spine_units = set(input_units(coupling, y, 8, 1).tolist())
    (units,) = [u for u in pools_of(coupling) if set(u.tolist()) == spine_units]
    reads = reads_of(coupling, units, collect(coupling, images(16), 16))
    inner = n.nodes[2].output[0]
    assert [read.layer.y for read in reads] == [inner, out]


def test_a_pool_that_only_shared_weights_read_has_no_evidence() -> None:
    n, x = image()
    y, z = n.relu(n.conv(x, 8)), n.relu(n.conv(x, 8))
    w = n.random(4, 8, 3, 3, fan_in=72)
    shared = [n.op("Conv", v, w, pads=[1] * 4, channels=4) for v in (y, z)]
    seen = n.relu(n.conv(x, 6))
    coupling = coupling_of(n.build(n.concat(*shared, n.conv(seen, 4))))
    pools = gather(coupling).pools
    assert len(pools) == 2
    assert sorted(pool is None for pool in pools) == [False, True]
    known = next(pool for pool in pools if pool is not None)
    assert known.order.size == 6


def test_an_output_of_another_size_in_every_run_gives_evidence() -> None:
    n, x = image()
    y = n.block(n.block(x, 8), 12)
    mask = n.op("Greater", n.conv(y, 1), n.const(0.0))
    coupling = coupling_of(n.build(n.head(y), n.op("NonZero", mask)))
    assert all(pool is not None for pool in gather(coupling).pools)


# ---- samples ----------------------------------------------------------------------------------


def test_every_eighth_sample_is_held_out_wherever_a_batch_starts() -> None:
    whole = held_out(0, 40)
    assert whole.nonzero()[0].tolist() == [7, 15, 23, 31, 39]
    for start, stop in pairwise((0, 3, 9, 24, 40)):
        np.testing.assert_array_equal(held_out(start, stop - start), whole[start:stop])


def test_wide_layers_and_few_samples_need_more_positions() -> None:
    assert positions_per_sample(10, 64) * 64 >= 8192
    assert positions_per_sample(1000, 64) * 64 >= 24 * 1000
    # wide layers: fewer rows per input, but always several times as many
    assert 8 * 4000 <= positions_per_sample(4000, 64) * 64 < 24 * 4000
    assert positions_per_sample(10, 10**9) == 1
    assert positions_per_sample(10, 0) >= 8192


# ---- patches that are too large ----------------------------------------------------------------


def by_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the Gram matrices of patches too large, those of channels not."""
    monkeypatch.setattr(statistics, "LARGEST_GRAM", 16)


def test_copies_are_found_channel_by_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    by_channel(monkeypatch)
    coupling, rows = planted()
    found = only(coupling)
    pairs = {int(row): place % 4 for place, row in enumerate(rows)}
    assert len({pairs[int(row)] for row in found.order[:4]}) == 4
    assert found.local[4] < 0.02 * found.local[3]
    assert found.damage[4] < 0.05 * found.damage[3]


def test_channels_are_read_at_every_kernel_position(monkeypatch: pytest.MonkeyPatch) -> None:
    by_channel(monkeypatch)
    coupling, _ = planted()
    (units,) = pools_of(coupling)
    (read,) = reads_of(coupling, units, collect(coupling, batches_for(coupling), 32))
    assert (read.tied, read.covariance.shape, read.weight.shape) == (9, (8, 8), (8, 9 * 4))
    kernel = coupling.walk.constants.array(read.layer.weight)  # (outputs, channels, 3, 3)
    expected = kernel.transpose(1, 2, 3, 0).reshape(8, -1)
    np.testing.assert_allclose(read.weight, expected, rtol=1e-6)
    x = values_of(coupling, [read.layer.x])[read.layer.x]
    kept = ~held_out(0, len(x))
    seen = np.moveaxis(x[kept], 1, 0).reshape(8, -1)
    np.testing.assert_allclose(read.covariance, np.cov(seen, bias=True), rtol=1e-4, atol=1e-6)
