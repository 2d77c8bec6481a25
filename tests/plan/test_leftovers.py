"""What alignment leaves over goes where it is worth most."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnx_scsp.plan import allocate
from plan.test_allocate import lots_of, pool


def curve(size: int, worth: float) -> np.ndarray:
    return np.linspace(worth, 0.0, size + 1)


def settled(sizes: list[int], step: int, ratio: float, worth: list[float]) -> list[int]:
    lots, needs = lots_of([pool(size, step) for size in sizes])
    curves = [curve(size, value) for size, value in zip(sizes, worth, strict=True)]
    return allocate.by_ratio(lots, ratio, needs, curves)


def test_groups_that_would_all_be_rounded_up_share_what_there_is() -> None:
    # 12 of 24 lies between 8 and 16: rounding alike keeps 64 of 48
    assert settled([24] * 4, 8, 0.5, [1.0, 2.0, 3.0, 4.0]) == [8, 8, 16, 16]


def test_groups_that_would_all_be_rounded_down_share_what_there_is() -> None:
    # 10 of 40 lies between 8 and 16
    assert settled([40] * 4, 8, 0.25, [1.0, 9.0, 2.0, 3.0]) == [8, 16, 8, 8]


def test_single_units_stay_as_they_were_rounded() -> None:
    assert settled([5] * 4, 1, 0.5, [1.0, 2.0, 3.0, 4.0]) == [3, 3, 3, 3]


@given(
    st.lists(st.integers(4, 200), min_size=1, max_size=8),
    st.sampled_from([2, 4, 8, 16]),
    st.floats(0.2, 0.9),
    st.integers(0, 1000),
)
def test_the_sum_comes_no_further_from_the_goal(
    sizes: list[int], step: int, ratio: float, seed: int
) -> None:
    worth = np.random.default_rng(seed).uniform(0.1, 5.0, len(sizes)).tolist()
    lots, needs = lots_of([pool(size, step) for size in sizes])
    alike = allocate.by_ratio(lots, ratio, needs)
    shared = settled(sizes, step, ratio, worth)
    goal = ratio * sum(sizes)
    assert abs(sum(shared) - goal) <= abs(sum(alike) - goal) + 1e-6
    assert all(count in lot.allowed for count, lot in zip(shared, lots, strict=True))


@given(st.integers(0, 1000), st.floats(0.2, 0.9))
def test_no_group_goes_further_than_to_the_next_count_beyond_its_share(
    seed: int, ratio: float
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(8, 100, 6).tolist()
    lots, _ = lots_of([pool(size, 8) for size in sizes])
    for lot, count, size in zip(
        lots, settled(sizes, 8, ratio, rng.uniform(0.1, 5.0, 6).tolist()), sizes, strict=True
    ):
        below = max((c for c in lot.allowed if c <= ratio * size), default=lot.allowed[0])
        above = min(c for c in lot.allowed if c >= ratio * size)
        assert count in (below, above)
