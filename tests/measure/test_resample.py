"""Known answers of the statistics: no clock takes part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_scsp.measure.resample import (
    bootstrap_interval,
    noise_floor,
    ratio_of_medians,
    timing,
)


def lognormal(rng: np.random.Generator, rounds: int, median: float) -> np.ndarray:
    return median * np.exp(0.1 * rng.standard_normal(rounds))


def test_median_and_quartiles_of_known_times() -> None:
    found = timing(np.array([0.005, 0.001, 0.004, 0.002, 0.003]))
    assert (found.q1_ms, found.median_ms, found.q3_ms) == pytest.approx((2.0, 3.0, 4.0))
    assert found.iqr_ms == pytest.approx(2.0)
    assert found.runs == 5


def test_the_ratio_is_that_of_the_medians_and_ignores_an_outlier() -> None:
    a, b = np.array([2.0, 2.0, 2.0, 900.0]), np.array([1.0, 1.0, 1.0, 1.0])
    assert ratio_of_medians(a, b) == 0.5


def test_times_without_spread_have_an_interval_without_width() -> None:
    assert bootstrap_interval(np.full(9, 2.0), np.full(9, 3.0)) == (1.5, 1.5)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    trials, hits = 200, 0
    for seed in range(trials):
        a, b = lognormal(rng, 40, 1.0), lognormal(rng, 40, 0.6)
        low, high = bootstrap_interval(a, b, seed=seed, resamples=400)
        hits += low <= 0.6 <= high
    assert 0.88 <= hits / trials <= 0.995


def test_an_interval_of_half_the_confidence_misses_more_often() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        a, b = lognormal(rng, 40, 1.0), lognormal(rng, 40, 0.6)
        low, high = bootstrap_interval(a, b, seed=seed, resamples=400, confidence=0.5)
        hits += low <= 0.6 <= high
    assert 0.35 <= hits / 200 <= 0.7


def test_more_rounds_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for rounds in (20, 2000):
        low, high = bootstrap_interval(lognormal(rng, rounds, 1.0), lognormal(rng, rounds, 0.6))
        widths.append(high - low)
    assert widths[1] < 0.3 * widths[0]


def test_what_slows_both_models_of_a_round_cancels() -> None:
    drift = 1.0 + np.arange(60) / 20.0
    paired = bootstrap_interval(drift, 0.5 * drift)
    shuffled = bootstrap_interval(drift, 0.5 * np.random.default_rng(0).permutation(drift))
    assert paired == pytest.approx((0.5, 0.5))
    assert shuffled[1] - shuffled[0] > 0.05


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    rng = np.random.default_rng(2)
    a, b = lognormal(rng, 30, 1.0), lognormal(rng, 30, 0.6)
    assert bootstrap_interval(a, b, seed=7) == bootstrap_interval(a, b, seed=7)
    assert bootstrap_interval(a, b, seed=7) != bootstrap_interval(a, b, seed=8)


def test_the_noise_floor_is_the_far_end_of_an_interval_around_one() -> None:
    assert noise_floor((0.97, 1.01)) == pytest.approx(0.03)
    assert noise_floor((1.02, 1.05)) == pytest.approx(0.05)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(1e-4, 1.0), min_size=3, max_size=30),
    st.integers(-9, 9),
)
def test_the_unit_of_time_does_not_matter(times: list[float], power: int) -> None:
    a, b = np.array(times), np.array(times[::-1])
    scaled = bootstrap_interval(a * 2.0**power, b * 2.0**power, resamples=50)
    assert scaled == bootstrap_interval(a, b, resamples=50)  # powers of two round nothing
