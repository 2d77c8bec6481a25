"""Ridge regression from accumulated products: planted weights, and errors computed directly."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from onnx_scsp.observe.regression import Products, fit

GROUPS, ROWS, D, OUTPUTS = 2, 60, 5, 3


class Planted:
    """Rows with an offset, weights with a bias, and targets without noise."""

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.rows = rng.standard_normal((GROUPS, ROWS, D)) + 0.7
        self.weight = rng.standard_normal((GROUPS, D + 1, OUTPUTS))
        self.targets = self.rows @ self.weight[:, :-1] + self.weight[:, -1:]
        self.targets += noise * rng.standard_normal(self.targets.shape)
        self.start = rng.standard_normal(self.weight.shape)
        self.products = Products.zeros(GROUPS, D, OUTPUTS)
        self.products.add(self.rows[:, :20], self.targets[:, :20])
        self.products.add(self.rows[:, 20:], self.targets[:, 20:])

    def error(self, weight: np.ndarray) -> float:
        fitted = self.rows @ weight[:, :-1] + weight[:, -1:]
        return float(np.square(fitted - self.targets).sum())


def test_a_fit_recovers_planted_weights_and_bias() -> None:
    planted = Planted()
    found = fit(planted.products, planted.start, 0.0)
    np.testing.assert_allclose(found, planted.weight, atol=1e-9)


def test_what_is_added_after_a_look_counts() -> None:
    planted = Planted(noise=1.0)
    late = Products.zeros(GROUPS, D, OUTPUTS)
    late.add(planted.rows[:, :30], planted.targets[:, :30])
    late.error(planted.start)
    late.add(planted.rows[:, 30:], planted.targets[:, 30:])
    np.testing.assert_allclose(
        fit(late, planted.start, 0.1), fit(planted.products, planted.start, 0.1)
    )
    np.testing.assert_allclose(late.error(planted.start), planted.error(planted.start))


@pytest.mark.parametrize("bias", [True, False])
def test_small_groups_are_solved_as_if_each_were_alone(bias: bool) -> None:
    """One of them sees nothing at all, and one the same input twice."""
    planted = Planted(noise=1.0)
    rows = np.concatenate([planted.rows, planted.rows, planted.rows])[:5].copy()
    rows[2] = 0.0
    rows[3, :, 1] = rows[3, :, 0]
    targets, start = np.tile(planted.targets[:1], (5, 1, 1)), np.tile(planted.start[:1], (5, 1, 1))
    together = Products.zeros(5, D, OUTPUTS)
    together.add(rows, targets)
    found = fit(together, start, 1e-3, bias=bias)
    for g in range(5):
        alone = Products.zeros(1, D, OUTPUTS)
        alone.add(rows[g : g + 1], targets[g : g + 1])
        one = fit(alone, start[g : g + 1], 1e-3, bias=bias)[0]
        np.testing.assert_allclose(found[g], one, rtol=1e-6, atol=1e-8)


def test_targets_of_another_row_are_not_recovered() -> None:
    planted = Planted()
    mixed = Products.zeros(GROUPS, D, OUTPUTS)
    mixed.add(planted.rows, planted.targets[:, ::-1])
    assert np.abs(fit(mixed, planted.start, 0.0) - planted.weight).max() > 0.1


def test_a_fit_is_the_least_squares_solution() -> None:
    planted = Planted(noise=1.0)
    found = fit(planted.products, planted.start, 0.0)
    for g in range(GROUPS):
        design = np.concatenate([planted.rows[g], np.ones((ROWS, 1))], axis=1)
        np.testing.assert_allclose(
            found[g], np.linalg.lstsq(design, planted.targets[g], rcond=None)[0]
        )


def test_a_ridge_solves_the_stated_problem() -> None:
    """No small step in any direction lowers the error plus the ridge."""
    planted, share = Planted(noise=1.0), 0.05
    found = fit(planted.products, planted.start, share)

    def objective(weight: np.ndarray) -> float:
        total = planted.error(weight)
        for g in range(GROUPS):
            scale = np.square(planted.rows[g]).sum() / D
            total += share * scale * np.square((weight - planted.start)[g, :-1]).sum()
        return total

    rng = np.random.default_rng(1)
    steps = [1e-3 * rng.standard_normal(found.shape) for _ in range(50)]
    assert all(objective(found + step) > objective(found) for step in steps)


def test_a_stronger_ridge_stays_closer_to_the_start() -> None:
    planted = Planted(noise=1.0)
    distances = [
        np.linalg.norm((fit(planted.products, planted.start, share) - planted.start)[:, :-1])
        for share in (0.0, 1e-2, 1.0, 1e2, 1e6)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 100 * distances[-1]


def test_the_bias_is_free_under_the_strongest_ridge() -> None:
    planted = Planted()
    found = fit(planted.products, planted.start, 1e12)
    left = planted.targets - planted.rows @ planted.start[:, :-1]
    np.testing.assert_allclose(found[:, -1], left.mean(axis=1), atol=1e-6)


def test_a_bias_that_may_not_move_stays() -> None:
    planted = Planted()
    found = fit(planted.products, planted.start, 0.0, bias=False)
    np.testing.assert_array_equal(found[:, -1], planted.start[:, -1])
    for g in range(GROUPS):
        left = planted.targets[g] - planted.start[g, -1]
        expected = np.linalg.lstsq(planted.rows[g], left, rcond=None)[0]
        np.testing.assert_allclose(found[g, :-1], expected, atol=1e-9)


def test_a_right_bias_that_may_not_move_leaves_the_planted_weights() -> None:
    planted = Planted()
    planted.start[:, -1] = planted.weight[:, -1]
    found = fit(planted.products, planted.start, 0.0, bias=False)
    np.testing.assert_allclose(found, planted.weight, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_a_fit_does_not_write_into_the_start(bias: bool) -> None:
    planted = Planted()
    before = planted.start.copy()
    fit(planted.products, planted.start, 0.1, bias=bias)
    np.testing.assert_array_equal(planted.start, before)


def test_the_error_is_the_one_computed_from_the_rows() -> None:
    planted = Planted(noise=1.0)
    for weight in (planted.start, planted.weight, np.zeros_like(planted.start)):
        assert planted.products.error(weight) == pytest.approx(planted.error(weight))


def test_the_error_of_the_planted_weights_is_nothing() -> None:
    planted = Planted()
    assert planted.products.error(planted.weight) < 1e-9 < planted.products.error(planted.start)


def test_moments_and_variance_are_those_of_the_rows() -> None:
    planted = Planted(noise=1.0)
    for g in range(GROUPS):
        covariance, mean = planted.products.moments(g)
        np.testing.assert_allclose(mean, planted.rows[g].mean(axis=0))
        np.testing.assert_allclose(covariance, np.cov(planted.rows[g].T, bias=True), atol=1e-12)
    spread = planted.targets - planted.targets.mean(axis=1, keepdims=True)
    assert planted.products.variance == pytest.approx(np.square(spread).sum())


@pytest.mark.parametrize("width", [3, 300])
def test_gram_matrices_are_sums_of_products_however_wide(width: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 40, width))
    products = Products.zeros(2, width, 0)
    for part in np.split(rows, 2, axis=1):
        products.add(part, np.zeros((2, 20, 0)))
    for g in range(2):
        full = np.concatenate([rows[g], np.ones((40, 1))], axis=1)
        np.testing.assert_allclose(products.gram(g), full.T @ full, atol=1e-10)


def test_samples_and_positions_are_rows() -> None:
    planted = Planted()
    parted = Products.zeros(GROUPS, D, OUTPUTS)
    parted.add_samples(
        planted.rows.reshape(GROUPS, 12, 5, D), planted.targets.reshape(GROUPS, 12, 5, OUTPUTS)
    )
    assert parted.rows == planted.products.rows == ROWS
    np.testing.assert_allclose(parted.lower, planted.products.lower)
    np.testing.assert_allclose(parted.cross, planted.products.cross)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_left_out(value: float) -> None:
    planted = Planted()
    clean = Products.zeros(GROUPS, D, OUTPUTS)
    clean.add(planted.rows[:, 2:], planted.targets[:, 2:])
    planted.rows[1, 0, 3] = planted.targets[0, 1, 2] = value
    spoiled = Products.zeros(GROUPS, D, OUTPUTS)
    spoiled.add(planted.rows, planted.targets)
    assert spoiled.rows == clean.rows
    np.testing.assert_allclose(spoiled.lower, clean.lower)
    np.testing.assert_allclose(spoiled.cross, clean.cross)


def test_no_samples_add_nothing() -> None:
    products = Products.zeros(GROUPS, D, OUTPUTS)
    products.add_samples(np.zeros((GROUPS, 0, 5, D)), np.zeros((GROUPS, 0, 5, OUTPUTS)))
    assert products.rows == 0


@pytest.mark.parametrize("share", [0.0, 1e-4, 1e-1])
def test_inputs_that_repeat_or_never_change_leave_the_fit_finite(share: float) -> None:
    planted = Planted()
    planted.rows[:, :, 1] = planted.rows[:, :, 0]
    planted.rows[:, :, 2] = 0.0
    products = Products.zeros(GROUPS, D, OUTPUTS)
    products.add(planted.rows, planted.targets)
    found = fit(products, planted.start, share)
    assert np.isfinite(found).all()
    assert products.error(found) <= products.error(planted.start)


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_inputs_of_any_size_are_fitted_and_nothing_is_said(size: float) -> None:
    planted = Planted()
    planted.rows *= size
    planted.weight[:, :-1] /= size
    products = Products.zeros(GROUPS, D, OUTPUTS)
    products.add(planted.rows, planted.targets)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit(products, planted.start / size, 1e-12)
    assert not caught
    np.testing.assert_allclose(found, planted.weight, rtol=1e-3)


def test_singular_sums_are_solved_without_a_warning() -> None:
    products = Products.zeros(1, 2, 1)
    products.add(np.ones((1, 3, 2)), np.ones((1, 3, 1)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit(products, np.zeros((1, 3, 1)), 0.0)
    assert not caught
    assert products.error(found) < 1e-9


def test_an_error_is_never_negative() -> None:
    planted = Planted()
    products = Products.zeros(GROUPS, D, OUTPUTS)
    products.add(planted.rows * 1e8, planted.targets * 1e8)
    planted.weight[:, -1] *= 1e8
    assert 0.0 <= products.error(planted.weight) < 1e-12 * products.power.sum()


def test_fewer_rows_than_inputs_are_fitted_and_the_rest_stays_at_the_start() -> None:
    """What no row speaks of is left to the ridge: directions across the rows keep the start."""
    planted = Planted()
    products = Products.zeros(GROUPS, D, OUTPUTS)
    products.add(planted.rows[:, :2], planted.targets[:, :2])
    found = fit(products, planted.start, 1e-6)
    for g in range(GROUPS):
        design = np.concatenate([planted.rows[g, :2], np.ones((2, 1))], axis=1)
        np.testing.assert_allclose(design @ found[g], planted.targets[g, :2], atol=1e-3)
        centred = planted.rows[g, 0] - planted.rows[g, 1]
        across = np.linalg.svd(centred[None])[2][1:]
        moved = (found - planted.start)[g, :-1]
        np.testing.assert_allclose(across @ moved, 0.0, atol=1e-5)
