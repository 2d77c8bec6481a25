"""Criteria and affinities: known answers, and what must not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.tables import directions, table

from onnx_scsp.describe import AFFINITIES, CRITERIA, Criterion
from onnx_scsp.errors import ConfigError
from onnx_scsp.observe import activity
from onnx_scsp.units import Activity, UnitTable, View

READING = ["hrank", "reap", "contribution", "output-error"]


def rows_of(seed: int, samples: int, units: int, taps: int = 1) -> np.ndarray:
    """Centred inputs of a reader, (samples, units x taps), that depend on each other."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((samples, units * taps)) @ rng.standard_normal((units * taps,) * 2)
    return mixed - mixed.mean(axis=0)


def view_of(rows: np.ndarray, weight: np.ndarray, taps: int = 1, variance: float = 1.0) -> View:
    places = {i: np.arange(i * taps, (i + 1) * taps) for i in range(rows.shape[1] // taps)}
    return activity.view_of(rows.T @ rows / len(rows), weight, places, variance)


def seen(*views: View, n: int, seed: int = 0) -> UnitTable:
    """A table with what readers see of its units."""
    rng = np.random.default_rng(seed)
    known = Activity(views, rng.permutation(n) + 1.0, rng.uniform(1.0, 8.0, n))
    return replace(table(rng.standard_normal((n, 6))), activity=known)


def full(seed: int, n: int) -> UnitTable:
    rng = np.random.default_rng(seed)
    rows = rows_of(seed, 40, n, 2)
    return seen(view_of(rows, rng.standard_normal((2 * n, 3)), 2), n=n, seed=seed)


# ---- distance to the geometric median ---------------------------------------------------------


def test_the_filter_at_the_geometric_median_is_worth_least() -> None:
    found = CRITERIA["fpgm"](table(np.array([[0.0], [1.0], [5.0]])))
    np.testing.assert_allclose(found, [3.0, 2.5, 4.5])


def test_a_filter_without_others_is_worth_its_length() -> None:
    np.testing.assert_allclose(CRITERIA["fpgm"](table(np.array([[3.0, 4.0]]))), [5.0])


def test_distances_do_not_depend_on_where_the_filters_lie() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 4))
    near, far = (CRITERIA["fpgm"](table(rows + shift)) for shift in (0.0, 7.0))
    np.testing.assert_allclose(near, far, atol=1e-6)


# ---- given scores, normalisation --------------------------------------------------------------


def test_given_scores_are_used_as_they_are() -> None:
    scored = replace(table(directions(3)), importance=np.array([2.0, 0.0, 1.0]))
    assert CRITERIA["importance"](scored).tolist() == [2.0, 0.0, 1.0]


@pytest.mark.parametrize(("name", "field"), [("gamma", "norm_scale"), ("importance", "importance")])
def test_a_group_without_what_a_criterion_needs_is_named(name: str, field: str) -> None:
    bare = replace(table(directions(3)), **{field: None})
    with pytest.raises(ConfigError, match=f"'{name}'.*g00"):
        CRITERIA[name](bare)


# ---- what inputs show -------------------------------------------------------------------------


def test_ranks_are_used_as_they_are() -> None:
    found = full(0, 5)
    assert found.activity is not None
    assert CRITERIA["hrank"](found) is found.activity.ranks


def test_of_a_pointwise_reader_contributions_are_gram_times_gram() -> None:
    rows, weight = rows_of(0, 30, 4), np.random.default_rng(1).standard_normal((4, 5))
    found = AFFINITIES["functional"](seen(view_of(rows, weight, variance=2.0), n=4))
    np.testing.assert_allclose(found, (rows.T @ rows / 30) * (weight @ weight.T) / 2.0)


@pytest.mark.parametrize("taps", [1, 4])
def test_contributions_are_covariances_of_what_units_add_to_the_outputs(taps: int) -> None:
    rows, weight = rows_of(0, 50, 3, taps), np.random.default_rng(1).standard_normal((3 * taps, 2))
    parts = [rows[:, i * taps : (i + 1) * taps] @ weight[i * taps : (i + 1) * taps]
             for i in range(3)]  # fmt: skip
    expected = [[(a * b).sum() / 50 for b in parts] for a in parts]
    units = seen(view_of(rows, weight, taps), n=3)
    np.testing.assert_allclose(AFFINITIES["functional"](units), expected)
    np.testing.assert_allclose(CRITERIA["contribution"](units), np.diagonal(expected))


def test_readers_add_up_and_a_unit_that_one_does_not_see_counts_at_the_other() -> None:
    rows, weight = rows_of(0, 30, 3), np.ones((3, 2))
    whole = view_of(rows, weight)
    sees = {0: np.array([0]), 2: np.array([1])}
    part = activity.view_of(whole.covariance[:2, :2], weight[:2], sees, 1.0)
    both, one = seen(whole, part, n=3), seen(whole, n=3)
    more = CRITERIA["contribution"](both) - CRITERIA["contribution"](one)
    np.testing.assert_allclose(more, [2 * whole.covariance[0, 0], 0, 2 * whole.covariance[1, 1]])


def test_units_that_contribute_alike_are_alike_though_their_filters_differ() -> None:
    rows = rows_of(0, 200, 2)
    rows = np.concatenate([rows, rows], axis=1)  # units 2 and 3 say what 0 and 1 say
    weight = np.tile(np.random.default_rng(1).standard_normal((2, 3)), (2, 1))
    gram = AFFINITIES["functional"](seen(view_of(rows, weight), n=4))
    assert gram[0, 2] == pytest.approx(gram[0, 0])
    assert abs(gram[0, 1]) < 0.9 * np.sqrt(gram[0, 0] * gram[1, 1])


def test_independent_units_lose_their_own_variance_times_their_readers() -> None:
    places = {i: np.array([i]) for i in range(3)}
    weight = np.array([[3.0], [1.0], [1.0]])
    view = activity.view_of(np.diag([1.0, 4.0, 9.0]), weight, places, 2.0)
    found = CRITERIA["reap"](seen(view, n=3))
    np.testing.assert_allclose(found, [4.5, 2.0, 4.5], rtol=5e-3)


def test_the_first_to_go_loses_what_the_others_cannot_rebuild() -> None:
    rows, weight = np.random.default_rng(3).standard_normal((400, 5)), np.ones((5, 1))
    rows[:, 4] += rows[:, 0] - 0.5 * rows[:, 2]
    rows -= rows.mean(axis=0)
    found = CRITERIA["reap"](seen(view_of(rows, weight), n=5))
    first = int(np.argmin(found))
    others = np.delete(rows, first, axis=1)
    left = rows[:, first] - others @ np.linalg.lstsq(others, rows[:, first], rcond=None)[0]
    assert found[first] == pytest.approx(float(np.square(left).mean()), rel=0.02)


def test_a_sum_of_others_is_free_and_then_none_of_them_is() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 3))
    rows = np.concatenate([rows, rows[:, :1] + rows[:, 1:2]], axis=1)
    found = np.sort(CRITERIA["reap"](seen(view_of(rows, np.ones((4, 1))), n=4)))
    assert found[0] < 0.01 < 0.1 < found[1]


def test_of_each_pair_of_copies_one_is_free() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 3))
    rows = np.concatenate([rows, rows], axis=1)
    found = CRITERIA["reap"](seen(view_of(rows, np.ones((6, 1))), n=6))
    free = np.flatnonzero(found < 0.01)
    assert sorted(free % 3) == [0, 1, 2]


# ---- what must not matter ---------------------------------------------------------------------


@pytest.mark.parametrize("name", READING)
def test_units_that_nothing_shows_anything_of_go_by_their_weights(name: str) -> None:
    bare = table(np.random.default_rng(0).standard_normal((5, 4)))
    np.testing.assert_array_equal(CRITERIA[name](bare), CRITERIA["energy"](bare))


def test_without_inputs_the_functional_affinity_is_that_of_the_weights() -> None:
    bare = table(np.random.default_rng(0).standard_normal((5, 4)))
    np.testing.assert_array_equal(AFFINITIES["functional"](bare), bare.features)


def permuted(units: UnitTable, order: np.ndarray) -> UnitTable:
    """The same units in another order."""
    square = np.ix_(order, order)
    known = units.activity
    assert known is not None and known.ranks is not None
    assert units.norm_scale is not None and units.importance is not None
    place = np.argsort(order)
    views = []
    for v in known.views:
        inner = np.argsort(place[v.rows])
        both = np.ix_(inner, inner)
        rows, grams = place[v.rows][inner], (v.covariance[both], v.contributions[both])
        views.append(View(rows, grams[0], v.reach[inner], grams[1]))
    return replace(
        units,
        features=units.features[square],
        signal=units.signal[square],
        reader_energy=units.reader_energy[order],
        norm_scale=units.norm_scale[order],
        importance=units.importance[order],
        activity=Activity(tuple(views), known.loss[order], known.ranks[order]),
    )


def scaled(units: UnitTable, factor: float) -> UnitTable:
    """The same units, everything they make and everything that reads them larger."""
    known = units.activity
    assert known is not None
    assert units.norm_scale is not None and units.importance is not None
    views = tuple(
        View(v.rows, v.covariance * factor**2, v.reach * factor**2, v.contributions * factor**4)
        for v in known.views
    )
    return replace(
        units,
        signal=units.signal * factor**2,
        reader_energy=units.reader_energy * factor**2,
        norm_scale=units.norm_scale * factor,
        importance=units.importance * factor,
        activity=replace(known, views=views),
    )


@pytest.mark.parametrize("name", CRITERIA)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 9))
def test_the_order_of_the_units_does_not_matter(name: str, seed: int, n: int) -> None:
    units, order = full(seed, n), np.random.default_rng(seed).permutation(n)
    found = CRITERIA[name](permuted(units, order))
    np.testing.assert_allclose(found, CRITERIA[name](units)[order], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", CRITERIA)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_the_scale_of_a_layer_does_not_change_the_ranking(
    name: str, seed: int, factor: float
) -> None:
    units = full(seed, 7)
    before, after = (np.argsort(CRITERIA[name](u)) for u in (units, scaled(units, factor)))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("n", [1, 6])
def test_worth_is_finite_and_not_negative(name: str, n: int) -> None:
    found = CRITERIA[name](full(0, n))
    assert found.shape == (n,)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_says_in_a_line_what_it_goes_by(name: str) -> None:
    criterion: Criterion = CRITERIA[name]
    line = (criterion.__doc__ or "").strip().split("\n")[0]
    assert 20 < len(line) < 90


@pytest.mark.parametrize("entries", [CRITERIA, AFFINITIES])
def test_the_tables_cannot_be_changed_in_place(entries: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        entries["mine"] = None
