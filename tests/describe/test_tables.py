"""Unit tables against known answers: folding, multiplicity, depthwise gain, dead units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from graph.small import DIGITS

from onnx_scsp.couple import find_coupling
from onnx_scsp.describe import CRITERIA, unit_tables
from onnx_scsp.graph.load import load
from onnx_scsp.types import Chain, ChannelGroup, Member, Role
from onnx_scsp.units import UnitTable

RNG_SEED = 0


def member(tensor: str, axis: int, role: Role, units: list[int]) -> Member:
    return Member(tensor, axis, role, np.array(units))


def group(*members: Member, n: int, profile: list[int] | None = None) -> ChannelGroup:
    return ChannelGroup("g00", n, np.array(profile or [0] * n), members, ("conv",), True, 0)


def chain(weight: str, norm: tuple[str, ...] = (), bias: str = "", axis: int = 0) -> Chain:
    return Chain(f"{weight} node", "Conv", weight, axis, bias, "bn" if norm else "", norm, 0.0, "")


def table(arrays: Mapping[str, np.ndarray], found: ChannelGroup, *chains: Chain) -> UnitTable:
    return unit_tables(found, chains, arrays.__getitem__)[0]


def random(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


MAKES = member("w", 0, Role.MAKES, [0, 1, 2])
READS = member("r", 1, Role.READS, [0, 1, 2])
NORM = ("scale", "shift", "mean", "var")


# ---- known answers --------------------------------------------------------------------------


def test_signal_is_the_gram_matrix_of_the_filters() -> None:
    w = random(3, 2, 3, 3)
    flat = w.reshape(3, -1)
    found = table({"w": w}, group(MAKES, n=3), chain("w"))
    assert np.allclose(found.signal, flat @ flat.T)


def test_the_bias_is_one_more_entry_of_a_filter() -> None:
    w, b = random(3, 4), random(3, seed=1)
    rows = np.concatenate([w, b[:, None]], axis=1)
    found = table({"w": w, "b": b}, group(MAKES, n=3), chain("w", bias="b"))
    assert np.allclose(found.signal, rows @ rows.T)


def test_normalisation_is_folded_into_filter_and_bias() -> None:
    w, b = random(3, 4), random(3, seed=1)
    scale, shift, mean = (random(3, seed=seed) for seed in (2, 3, 4))
    var = np.array([0.5, 1.0, 4.0])
    factor = scale / np.sqrt(var)
    rows = np.concatenate([w * factor[:, None], ((b - mean) * factor + shift)[:, None]], axis=1)
    arrays = {"w": w, "b": b, "scale": scale, "shift": shift, "mean": mean, "var": var}
    found = table(arrays, group(MAKES, n=3), chain("w", NORM, "b"))
    assert np.allclose(found.signal, rows @ rows.T)


def test_filters_along_another_axis_are_read_along_it() -> None:
    w = random(4, 3)
    found = table({"w": w}, group(member("w", 1, Role.MAKES, [0, 1, 2]), n=3), chain("w", axis=1))
    assert np.allclose(found.signal, w.T @ w)


def test_features_of_one_producer_have_mean_size_one() -> None:
    found = table({"w": random(3, 4)}, group(MAKES, n=3), chain("w"))
    assert np.diagonal(found.features).mean() == pytest.approx(1.0)


def test_features_weigh_every_producer_alike() -> None:
    w, v = random(3, 4), random(3, 7, seed=1)
    pair = group(MAKES, member("v", 0, Role.MAKES, [0, 1, 2]), n=3)
    small, large = (
        table({"w": w, "v": factor * v}, pair, chain("w"), chain("v")) for factor in (1.0, 100.0)
    )
    assert np.allclose(small.features, large.features)


def test_signal_adds_over_producers() -> None:
    w, v = random(3, 4), random(3, 7, seed=1)
    pair = group(MAKES, member("v", 0, Role.MAKES, [0, 1, 2]), n=3)
    found = table({"w": w, "v": v}, pair, chain("w"), chain("v"))
    assert np.allclose(found.signal, w @ w.T + v @ v.T)


def test_reader_energy_is_the_squared_size_of_each_reader_slice() -> None:
    w, r = random(3, 4), random(5, 3, 2, seed=1)
    found = table({"w": w, "r": r}, group(MAKES, READS, n=3), chain("w"))
    assert np.allclose(found.reader_energy, (r**2).sum(axis=(0, 2)))


def test_reader_energy_sees_the_normalisation_behind_the_reader() -> None:
    w, r = random(3, 4), random(5, 3, seed=1)
    scale, var = random(5, seed=2), np.full(5, 4.0)
    arrays = {"w": w, "r": r, "scale": scale, "shift": scale, "mean": scale, "var": var}
    found = table(arrays, group(MAKES, READS, n=3), chain("w"), chain("r", NORM))
    assert np.allclose(found.reader_energy, ((r * (scale / 2.0)[:, None]) ** 2).sum(axis=0))


def test_without_readers_every_unit_counts_alike() -> None:
    found = table({"w": random(3, 4)}, group(MAKES, n=3), chain("w"))
    assert np.array_equal(found.reader_energy, np.ones(3))


def test_energy_is_producer_times_reader() -> None:
    w, r = random(3, 4), random(5, 3, seed=1)
    found = table({"w": w, "r": r}, group(MAKES, READS, n=3), chain("w"))
    assert np.allclose(found.energy, (w**2).sum(axis=1) * (r**2).sum(axis=0))


def test_half_precision_weights_are_summed_in_double() -> None:
    w = np.full((3, 70000), 1.0, np.float16)
    found = table({"w": w}, group(MAKES, n=3), chain("w"))
    assert found.signal.dtype == np.float64
    assert np.allclose(found.signal, 70000.0)


# ---- multiplicity ---------------------------------------------------------------------------


def test_a_unit_with_several_filters_stacks_them() -> None:
    w = random(6, 4)  # two groups of a grouped convolution, tied position by position
    tied = group(member("w", 0, Role.MAKES, [0, 1, 2, 0, 1, 2]), n=3)
    rows = np.concatenate([w[:3], w[3:]], axis=1)
    assert np.allclose(table({"w": w}, tied, chain("w")).signal, rows @ rows.T)


def test_a_reader_behind_a_flatten_counts_all_positions_of_a_channel() -> None:
    r = random(2, 12, seed=1)
    flat = member("r", 1, Role.READS, [0] * 4 + [1] * 4 + [2] * 4)
    found = table({"w": random(3, 4), "r": r}, group(MAKES, flat, n=3), chain("w"))
    assert np.allclose(found.reader_energy, (r**2).sum(axis=0).reshape(3, 4).sum(axis=1))


def test_entries_of_other_groups_are_left_out() -> None:
    w = random(5, 4)
    found = table({"w": w}, group(member("w", 0, Role.MAKES, [-1, 0, 1, 2, -1]), n=3), chain("w"))
    assert np.allclose(found.signal, w[1:4] @ w[1:4].T)


def test_units_of_different_profile_are_in_different_tables() -> None:
    mixed = group(member("w", 0, Role.MAKES, [0, 1, 2, 2]), n=3, profile=[0, 0, 1])
    found = unit_tables(mixed, [chain("w")], {"w": random(4, 5)}.__getitem__)
    assert [t.units.tolist() for t in found] == [[0, 1], [2]]


def test_tables_of_a_profile_match_that_profile_alone() -> None:
    w = random(4, 5)
    mixed = group(member("w", 0, Role.MAKES, [0, 1, 2, 2]), n=3, profile=[0, 0, 1])
    found = unit_tables(mixed, [chain("w")], {"w": w}.__getitem__)
    assert np.allclose(found[0].signal, w[:2] @ w[:2].T)
    assert np.allclose(found[1].signal, (w[2:] ** 2).sum())


# ---- depthwise filters ----------------------------------------------------------------------

DEPTHWISE = member("d", 0, Role.SCALES, [0, 1, 2])


def test_gain_is_the_least_squares_factor_between_depthwise_filters() -> None:
    d = random(3, 1, 3, 3, seed=1)
    flat = d.reshape(3, -1)
    arrays = {"w": random(3, 4), "d": d}
    found = table(arrays, group(MAKES, DEPTHWISE, n=3), chain("w"), chain("d"))
    want = [[np.linalg.lstsq(flat[s][:, None], flat[r], rcond=None)[0][0] for s in range(3)]
            for r in range(3)]  # fmt: skip
    assert np.allclose(found.gain, want)


def test_a_depthwise_filter_of_twice_the_size_has_gain_two() -> None:
    d = np.stack([np.ones((1, 3, 3)), 2.0 * np.ones((1, 3, 3)), np.ones((1, 3, 3))])
    arrays = {"w": random(3, 4), "d": d}
    found = table(arrays, group(MAKES, DEPTHWISE, n=3), chain("w"), chain("d"))
    assert found.gain[1, 0] == pytest.approx(2.0)
    assert found.gain[0, 1] == pytest.approx(0.5)


def test_without_depthwise_filters_the_gain_is_one() -> None:
    found = table({"w": random(3, 4)}, group(MAKES, n=3), chain("w"))
    assert np.array_equal(found.gain, np.ones((3, 3)))


def test_a_zero_depthwise_filter_gives_no_gain_and_no_nan() -> None:
    d = np.stack([np.zeros((1, 3, 3)), np.ones((1, 3, 3)), np.ones((1, 3, 3))])
    arrays = {"w": random(3, 4), "d": d}
    found = table(arrays, group(MAKES, DEPTHWISE, n=3), chain("w"), chain("d"))
    assert np.array_equal(found.gain[1:, 0], np.zeros(2))


def test_depthwise_filters_are_features_but_no_signal() -> None:
    w = random(3, 4)
    plain = table({"w": w}, group(MAKES, n=3), chain("w"))
    arrays = {"w": w, "d": random(3, 1, 3, 3, seed=1)}
    found = table(arrays, group(MAKES, DEPTHWISE, n=3), chain("w"), chain("d"))
    assert np.allclose(found.signal, plain.signal)
    assert not np.allclose(found.features, plain.features)


def test_a_loose_slope_is_a_feature_and_ends_scaled_merging() -> None:
    slope = member("slope", 0, Role.SCALES, [0, 1, 2])
    arrays = {"w": random(3, 4), "slope": random(3, 1, 1, seed=1)}
    found = table(arrays, group(MAKES, slope, n=3), chain("w"))
    assert not found.homogeneous


def test_folded_normalisation_does_not_end_scaled_merging() -> None:
    scales = [member(name, 0, Role.SCALES, [0, 1, 2]) for name in NORM]
    arrays = {"w": random(3, 4)} | {name: np.ones(3) for name in NORM}
    assert table(arrays, group(MAKES, *scales, n=3), chain("w", NORM)).homogeneous


# ---- dead units -----------------------------------------------------------------------------


def test_a_zero_filter_is_dead() -> None:
    w = random(3, 4)
    w[1] = 0.0
    assert table({"w": w}, group(MAKES, n=3), chain("w")).dead.tolist() == [False, True, False]


def test_a_zero_filter_with_a_bias_is_alive() -> None:
    w, b = random(3, 4), np.array([0.0, 1.0, 0.0])
    w[1] = 0.0
    assert not table({"w": w, "b": b}, group(MAKES, n=3), chain("w", bias="b")).dead.any()


def test_zero_scale_and_shift_of_the_normalisation_kill_a_unit() -> None:
    arrays = {"w": random(3, 4), "mean": np.ones(3), "var": np.ones(3)}
    arrays |= {"scale": np.array([1.0, 0.0, 1.0]), "shift": np.zeros(3)}
    found = table(arrays, group(MAKES, n=3), chain("w", NORM))
    assert found.dead.tolist() == [False, True, False]


def test_an_all_zero_layer_is_dead_and_finite() -> None:
    found = table({"w": np.zeros((3, 4))}, group(MAKES, n=3), chain("w"))
    assert found.dead.all()
    assert np.isfinite(found.features).all()


# ---- criteria -------------------------------------------------------------------------------


def test_l2_is_the_squared_norm_of_the_filters() -> None:
    w = random(3, 4)
    found = table({"w": w}, group(MAKES, n=3), chain("w"))
    assert np.allclose(CRITERIA["l2"](found), (w**2).sum(axis=1))


def test_energy_weighs_filters_by_their_readers() -> None:
    arrays = {"w": np.ones((3, 4)), "r": np.array([[1.0, 2.0, 3.0]])}
    found = table(arrays, group(MAKES, READS, n=3), chain("w"))
    assert np.allclose(CRITERIA["energy"](found), [4.0, 16.0, 36.0])


# ---- the digits model -----------------------------------------------------------------------


def digits(name: str) -> list[UnitTable]:
    coupling = find_coupling(load(DIGITS / f"digits_{name}.onnx"))
    weights = coupling.walk.constants.array
    found = coupling.map
    return [t for g in found.groups for t in unit_tables(g, found.chains, weights)]


@pytest.mark.parametrize("field", ["signal", "features", "gain", "reader_energy", "energy"])
def test_a_model_with_normalisation_describes_as_the_folded_one(field: str) -> None:
    plain, folded = digits("bn"), digits("folded")
    assert len(plain) == len(folded) == 8
    for a, b in zip(plain, folded, strict=True):
        left, right = getattr(a, field), getattr(b, field)
        assert np.abs(left - right).max() <= 1e-5 * np.abs(left).max(), a.group


# ---- what comes beside the filters ------------------------------------------------------------


def named(arrays: Mapping[str, np.ndarray], found: ChannelGroup, **known: Any) -> UnitTable:
    return unit_tables(found, (chain("w", NORM),), arrays.__getitem__, **known)[0]


def normalised(scale: list[float]) -> tuple[dict[str, np.ndarray], ChannelGroup]:
    arrays = {name: np.ones(3) for name in NORM} | {"w": random(3, 4), "scale": np.array(scale)}
    members = [MAKES, *(member(name, 0, Role.SCALES, [0, 1, 2]) for name in NORM)]
    return arrays, group(*members, n=3)


def test_the_size_of_the_normalisations_scale_is_known() -> None:
    found = named(*normalised([-2.0, 0.5, 1.0]), norm_scales=frozenset({"scale"}))
    assert CRITERIA["gamma"](found).tolist() == [2.0, 0.5, 1.0]


def test_scales_of_several_normalisations_are_averaged() -> None:
    arrays, one = normalised([1.0, 2.0, 3.0])
    arrays["other"] = np.array([-3.0, 0.0, 1.0])
    two = group(*one.members, member("other", 0, Role.SCALES, [0, 1, 2]), n=3)
    found = named(arrays, two, norm_scales=frozenset({"scale", "other"}))
    assert CRITERIA["gamma"](found).tolist() == [2.0, 1.0, 2.0]


def test_a_group_without_normalisation_has_no_such_scale() -> None:
    found = unit_tables(group(MAKES, n=3), (), {"w": random(3, 4)}.__getitem__,
                        norm_scales=frozenset({"scale"}))[0]  # fmt: skip
    assert found.norm_scale is None


def test_given_scores_reach_the_units_that_own_the_entries() -> None:
    swapped = group(member("w", 0, Role.MAKES, [2, -1, 0, 1]), n=3)
    found = unit_tables(swapped, (), {"w": random(4, 4)}.__getitem__,
                        importance={"w": np.array([5.0, 9.0, 1.0, 2.0])})[0]  # fmt: skip
    assert CRITERIA["importance"](found).tolist() == [1.0, 2.0, 5.0]


def test_scores_of_a_reader_say_nothing_about_the_units() -> None:
    found = unit_tables(group(MAKES, READS, n=3), (), {"w": random(3, 4), "r": random(5, 3)}.get,
                        importance={"r": np.ones(5)})[0]  # fmt: skip
    assert found.importance is None
