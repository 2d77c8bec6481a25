"""Who takes over whom, and with which factor."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_scsp.plan import COMPENSATORS, Pick
from plan.tables import directions, table

merge = COMPENSATORS["merge"]


def pick(*keep: int, clusters: list[int] | None = None) -> Pick:
    return Pick(np.array(keep), None if clusters is None else np.array(clusters))


def leaning(cosine: float) -> np.ndarray:
    """Two rows of length 1 at the given cosine, and one at a right angle to both."""
    a, b, c = directions(3)
    return np.stack([a, cosine * a + np.sqrt(1.0 - cosine**2) * b, c])


def test_a_copy_is_taken_over_with_scale_one() -> None:
    a, b = directions(2)
    taken, scales = merge(table(np.stack([a, b, a])), pick(0, 1), 0.5)
    assert taken == {2: 0}
    assert scales == {2: 1.0}


def test_a_multiple_is_taken_over_with_its_factor() -> None:
    a, b = directions(2)
    _, scales = merge(table(np.stack([a, b, 2.5 * a])), pick(0, 1), 0.5)
    assert scales[2] == pytest.approx(2.5)


def test_the_factor_is_the_least_squares_one() -> None:
    rows = leaning(0.8) * np.array([2.0, 3.0, 1.0])[:, None]
    _, scales = merge(table(rows), pick(0, 2), 0.5)
    want = np.linalg.lstsq(rows[0][:, None], rows[1], rcond=None)[0][0]
    assert scales[1] == pytest.approx(want)


def test_later_gains_multiply_the_factor() -> None:
    a, b = directions(2)
    gain = np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
    _, scales = merge(table(np.stack([a, b, 3.0 * a]), gain=gain), pick(0, 1), 0.5)
    assert scales[2] == pytest.approx(6.0)


def test_where_no_factor_passes_the_scale_is_one() -> None:
    a, b = directions(2)
    units = table(np.stack([a, b, 2.5 * a]), homogeneous=False)
    assert merge(units, pick(0, 1), 0.5)[1] == {2: 1.0}


@pytest.mark.parametrize(("threshold", "taken"), [(0.79, {1: 0}), (0.81, {})])
def test_only_what_is_near_enough_is_taken_over(threshold: float, taken: dict[int, int]) -> None:
    assert merge(table(leaning(0.8)), pick(0, 2), threshold)[0] == taken


def test_the_nearest_survivor_takes_over() -> None:
    rows = np.concatenate([leaning(0.8), leaning(0.95)[1:2]])
    assert merge(table(rows), pick(0, 1, 2), 0.5)[0] == {3: 0}


def test_only_a_survivor_of_the_same_cluster_takes_over() -> None:
    rows = np.concatenate([leaning(0.8), leaning(0.95)[1:2]])
    grouped = pick(0, 1, 2, clusters=[0, 1, 0, 1])
    assert merge(table(rows), grouped, 0.5)[0] == {3: 1}


def test_nobody_of_the_cluster_left_means_nobody_takes_over() -> None:
    grouped = pick(0, 2, clusters=[0, 1, 0])
    assert merge(table(leaning(0.8)), grouped, 0.5)[0] == {}


def test_dead_units_are_not_taken_over() -> None:
    rows = np.concatenate([directions(2), np.zeros((1, 24))])
    assert merge(table(rows), pick(0, 1), 0.0)[0] == {}


def test_dead_survivors_take_nothing_over() -> None:
    rows = np.concatenate([np.zeros((1, 24)), directions(1)])
    assert merge(table(rows), pick(0), 0.0)[0] == {}


def test_an_opposite_filter_is_not_taken_over() -> None:
    a = directions(1)
    assert merge(table(np.concatenate([a, -a])), pick(0), 0.0)[0] == {}


def test_later_gains_of_opposite_sign_end_the_takeover() -> None:
    a, b = directions(2)
    gain = np.array([[1.0, 1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    assert merge(table(np.stack([a, b, a]), gain=gain), pick(0, 1), 0.5) == ({}, {})


def test_numbers_are_the_groups_own() -> None:
    a, b = directions(2)
    units = table(np.stack([a, b, a]), first_unit=10)
    assert merge(units, pick(0, 1), 0.5) == ({12: 10}, {12: 1.0})


def test_scales_and_takeovers_name_the_same_units() -> None:
    units = table(np.random.default_rng(0).standard_normal((20, 4)))
    taken, scales = merge(units, pick(*range(0, 20, 3)), 0.3)
    assert taken
    assert set(taken) == set(scales)


def test_none_takes_nothing_over() -> None:
    a, b = directions(2)
    assert COMPENSATORS["none"](table(np.stack([a, b, a])), pick(0, 1), 0.0) == ({}, {})
