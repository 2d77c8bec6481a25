"""Units of grouped convolutions: balanced in every row, and as many as the rows allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_scsp.couple.balance import balanced
from onnx_scsp.types import IntArray


def alone(count: int) -> IntArray:
    return np.arange(count, dtype=np.int64)


def crossed(groups: int, width: int) -> list[IntArray]:
    """Rows of one grouped convolution, and rows of another behind a channel shuffle."""
    channels = alone(groups * width)
    shuffled = channels.reshape(groups, width).T.reshape(-1)
    return [channels.reshape(groups, width), shuffled.reshape(groups, width)]


def is_balanced(units: IntArray, balances: list[IntArray]) -> bool:
    rows = [np.sort(units[labels], axis=1) for labels in balances]
    return all((row == row[:1]).all() for row in rows)


def test_without_a_balance_classes_stay_alone() -> None:
    assert np.array_equal(balanced(alone(5), []), alone(5))


def test_one_balance_joins_equal_positions_of_its_rows() -> None:
    units = balanced(alone(6), [alone(6).reshape(2, 3)])
    assert units.tolist() == [0, 1, 2, 0, 1, 2]


def test_rows_that_hold_the_same_classes_are_left_alone() -> None:
    assert balanced(alone(3), [np.array([[0, 1, 2], [2, 0, 1]])]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("groups", "width"), [(2, 6), (2, 7), (3, 20), (3, 80), (4, 9), (8, 30)])
def test_rows_that_cross_in_a_shuffle_give_one_unit_per_channel_of_a_row(
    groups: int, width: int
) -> None:
    balances = crossed(groups, width)
    units = balanced(alone(groups * width), balances)
    assert is_balanced(units, balances)
    assert np.unique(units).size == width


def test_positions_would_have_chained_the_same_rows_up() -> None:
    """The case above is not one that ties by position solve as well."""
    first, second = crossed(3, 20)
    merged = np.arange(60)
    for _ in range(60):
        for rows in (first, second):
            for column in rows.T:
                merged[np.isin(merged, merged[column])] = merged[column].min()
    assert np.unique(merged).size < 7


def test_a_class_with_two_slots_in_a_row_goes_with_one_that_has_two_in_the_other() -> None:
    balances = [np.array([[0, 0, 1], [2, 3, 3]]), np.array([[0, 2], [1, 3]])]
    assert balanced(alone(4), balances).tolist() == [0, 1, 1, 0]


def test_what_cannot_be_split_becomes_one_unit() -> None:
    assert balanced(alone(3), [np.array([[0, 0, 1], [2, 2, 2]])]).tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=80, derandomize=True, database=None)
@given(
    groups=st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=4),
    width=st.sampled_from([12, 24]),
    seed=st.integers(0, 1000),
)
def test_any_balances_are_satisfied(groups: list[int], width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    balances = [rng.permutation(width).reshape(g, -1) for g in groups]
    assert is_balanced(balanced(alone(width), balances), balances)
