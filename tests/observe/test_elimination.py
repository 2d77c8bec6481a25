"""Backward elimination against brute force: copies, dead units, losses, weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_scsp.observe.elimination import DAMPING, Elimination, Read, eliminate

Array = NDArray[Any]


def read(
    rows: Array,
    weight: Array,
    inputs: dict[int, list[int]] | None = None,
    scale: Array | None = None,
    variance: float = 1.0,
) -> Read:
    """A reader of rows (n, D) whose input i feeds from unit i, unless said otherwise."""
    owners = inputs or {i: [i] for i in range(rows.shape[1])}
    return Read(
        layer=None,  # type: ignore[arg-type]
        group=0,
        covariance=np.atleast_2d(np.cov(rows.T, bias=True)),
        mean=rows.mean(axis=0),
        weight=weight,
        scale=np.ones(weight.shape[1]) if scale is None else scale,
        inputs={unit: np.array(places) for unit, places in owners.items()},
        variance=variance,
    )


def random_rows(count: int, n: int = 400, seed: int = 0) -> Array:
    """Correlated inputs, none of them a combination of the others."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((count, count)) + np.eye(count)
    return np.asarray(rng.standard_normal((n, count)) @ mixing)


def best_loss(one: Read, gone: Sequence[int]) -> tuple[float, Array]:
    """Least-squares error of a reader that has to do without some units, and its best weights."""
    covariance = one.covariance
    size = len(covariance)
    covariance = covariance + DAMPING * np.trace(covariance) / size * np.eye(size)
    lost = [place for unit in gone for place in one.inputs.get(unit, ())]
    kept = np.setdiff1d(np.arange(size), lost)
    weight = one.weight * one.scale
    found = np.zeros_like(weight)
    if kept.size:
        inner = covariance[np.ix_(kept, kept)]
        found[kept] = np.linalg.solve(inner, covariance[kept] @ weight)
    gap = weight - found
    return float(np.sum(gap * (covariance @ gap))) / one.variance, found


def damped(one: Read, unit: int) -> float:
    """What the damping alone asks for moving a unit's weight elsewhere once."""
    size = len(one.covariance)
    return DAMPING * np.trace(one.covariance) / size * np.square(one.weight[unit]).sum()


def check_curve(reads: Sequence[Read], n_units: int, found: Elimination) -> None:
    for left in range(n_units + 1):
        gone = found.order[: n_units - left].tolist()
        expected = sum(best_loss(one, gone)[0] for one in reads)
        assert found.loss[left] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_losses_are_least_squares_errors_of_what_stays() -> None:
    one = read(random_rows(7), np.random.default_rng(1).standard_normal((7, 4)), variance=3.0)
    check_curve([one], 7, eliminate([one], 7))


def test_losses_hold_for_units_of_several_inputs() -> None:
    inputs = {unit: [3 * unit, 3 * unit + 1, 3 * unit + 2] for unit in range(4)}
    one = read(random_rows(12), np.random.default_rng(1).standard_normal((12, 3)), inputs)
    check_curve([one], 4, eliminate([one], 4))


def test_losses_hold_for_units_of_unlike_width() -> None:
    inputs = {0: [0, 5, 7], 1: [1], 2: [2, 6], 3: [3]}
    rows = random_rows(8)
    one = read(rows, np.random.default_rng(1).standard_normal((8, 3)), inputs)
    check_curve([one], 4, eliminate([one], 4))


def test_several_readers_add_up() -> None:
    rng = np.random.default_rng(1)
    first = read(random_rows(6), rng.standard_normal((6, 3)), variance=2.0)
    # reads three of the units, beside an input that stays
    second = read(
        random_rows(4, seed=2), rng.standard_normal((4, 5)), {1: [0], 3: [2], 4: [3]}, variance=0.1
    )
    found = eliminate([first, second], 6)
    check_curve([first, second], 6, found)
    alone = eliminate([first], 6)
    assert found.loss[0] > alone.loss[0]


def test_the_cheapest_unit_goes_first_at_every_step() -> None:
    rng = np.random.default_rng(1)
    reads = [
        read(random_rows(6, seed=seed), rng.standard_normal((6, 4)), variance=variance)
        for seed, variance in ((0, 20.0), (1, 0.3), (2, 1.0))
    ]
    found = eliminate(reads, 6)
    for step in range(6):
        gone = found.order[:step].tolist()
        losses = {
            unit: sum(best_loss(one, [*gone, unit])[0] for one in reads)
            for unit in range(6)
            if unit not in gone
        }
        assert found.order[step] == min(losses, key=losses.__getitem__)


def test_a_copy_goes_first_and_costs_nothing() -> None:
    rows = random_rows(6)
    rows[:, 4] = rows[:, 2]
    one = read(rows, np.random.default_rng(1).standard_normal((6, 4)))
    found = eliminate([one], 6)
    assert found.order[0] in (2, 4)
    assert found.loss[5] <= 2 * damped(one, 4)
    assert found.loss[5] < 0.1 * eliminate([read(random_rows(6), one.weight)], 6).loss[5]


def test_a_combination_of_others_costs_nothing_and_without_it_they_do() -> None:
    rows = random_rows(6)
    rows[:, 3] = rows[:, 0] - 2.0 * rows[:, 1]
    one = read(rows, np.random.default_rng(1).standard_normal((6, 4)))
    found = eliminate([one], 6)
    assert found.order[0] in (0, 1, 3)
    assert found.loss[5] <= (1 + 1 + 4) * damped(one, 3) < found.loss[4]


def test_a_shift_is_free() -> None:
    """A constant input goes into the bias."""
    rows = random_rows(5)
    rows[:, 2] = 7.0
    one = read(rows, np.random.default_rng(1).standard_normal((5, 4)))
    found = eliminate([one], 5)
    assert found.order[0] == 2
    assert found.loss[4] < 1e-2 * found.loss[3]


def test_a_unit_that_nobody_weighs_goes_first() -> None:
    weight = np.random.default_rng(1).standard_normal((6, 4))
    weight[3] = 0.0
    found = eliminate([read(random_rows(6), weight)], 6)
    assert found.order[0] == 3
    assert found.loss[5] == pytest.approx(0.0, abs=1e-12)


def test_a_unit_that_nobody_reads_goes_first() -> None:
    one = read(
        random_rows(5),
        np.random.default_rng(1).standard_normal((5, 4)),
        {0: [0], 1: [1], 3: [2], 4: [3], 5: [4]},
    )
    found = eliminate([one], 6)
    assert found.order[0] == 2
    assert found.loss[5] == 0.0 < found.loss[4]


def test_an_output_that_is_scaled_to_nothing_does_not_count() -> None:
    weight = np.zeros((5, 2))
    weight[3, 0] = 100.0  # only seen by the output that vanishes
    weight[[0, 1, 2, 4], 1] = 1.0
    scaled = read(random_rows(5), weight, scale=np.array([0.0, 1.0]))
    assert eliminate([scaled], 5).order[0] == 3
    assert eliminate([read(random_rows(5), weight)], 5).order[0] != 3


def test_the_curve_never_falls_as_units_go_and_starts_at_zero() -> None:
    for seed in range(5):
        weight = np.random.default_rng(seed).standard_normal((9, 4))
        loss = eliminate([read(random_rows(9, seed=seed), weight)], 9).loss
        assert loss[9] == 0.0
        assert (np.diff(loss) <= 1e-12).all()


def test_every_unit_goes_once() -> None:
    for count in (1, 5, 130):  # several at a time in the last
        one = read(random_rows(count), np.ones((count, 2)))
        found = eliminate([one], count)
        assert sorted(found.order.tolist()) == list(range(count))
        assert found.loss.shape == (count + 1,)


def test_wide_pools_lose_several_units_at_a_time_and_the_losses_still_hold() -> None:
    one = read(random_rows(130), np.random.default_rng(1).standard_normal((130, 4)))
    found = eliminate([one], 130)
    gone = found.order[:50].tolist()
    assert found.loss[80] == pytest.approx(best_loss(one, gone)[0], rel=1e-4)


def test_snapshots_are_least_squares_solutions() -> None:
    scale = np.array([0.5, -2.0, 1.0])
    weight = np.random.default_rng(1).standard_normal((8, 3))
    inputs = {unit: [2 * unit, 2 * unit + 1] for unit in range(4)}
    one = read(random_rows(8), weight, inputs, scale)
    found = eliminate([one], 4, snapshots=(1, 3))
    assert set(found.snapshots) == {1, 3}
    for left, (snapshot,) in found.snapshots.items():
        expected = best_loss(one, found.order[: 4 - left].tolist())[1]
        np.testing.assert_allclose(snapshot * scale, expected, atol=1e-8)


def test_snapshots_are_not_changed_by_what_goes_later() -> None:
    one = read(random_rows(6), np.random.default_rng(1).standard_normal((6, 3)))
    early = eliminate([one], 6, snapshots=(4,)).snapshots[4][0]
    both = eliminate([one], 6, snapshots=(4, 1)).snapshots[4][0]
    np.testing.assert_array_equal(early, both)
    assert (both[one.inputs[int(eliminate([one], 6).order[0])]] == 0).all()


def test_the_reader_is_not_written_to() -> None:
    one = read(random_rows(6), np.random.default_rng(1).standard_normal((6, 3)))
    weight, covariance = one.weight.copy(), one.covariance.copy()
    eliminate([one], 6, snapshots=(2,))
    np.testing.assert_array_equal(one.weight, weight)
    np.testing.assert_array_equal(one.covariance, covariance)


def test_inputs_that_never_change_leave_everything_finite() -> None:
    one = read(np.zeros((10, 4)), np.ones((4, 2)), variance=0.0)
    found = eliminate([one], 4)
    assert np.isfinite(found.loss).all()


def test_no_reader_costs_nothing() -> None:
    found = eliminate([], 3)
    assert found.order.tolist() == [0, 1, 2]
    assert (found.loss == 0).all()
