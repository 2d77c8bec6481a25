"""The search for a measured latency, on models that are functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_scsp.errors import BudgetError, ConfigError
from onnx_scsp.measure.compare import Comparison
from onnx_scsp.speed import Latency
from onnx_scsp.speed.search import LatencySearch
from onnx_scsp.types import GroupCut, PrunePlan

Truth = Callable[[float], float]


def plan_of(value: float, steps: int = 1000, floor: float = 0.0) -> PrunePlan:
    """A plan that keeps as many of `steps` units as the budget allows."""
    if value < floor:
        raise BudgetError("too little", floor=floor)
    keep = tuple(range(max(int(value * steps), 1)))
    return PrunePlan(1, "", {}, (GroupCut("g", steps, keep),), (), ())


def seen(ratio: float) -> Comparison:
    return Comparison(ratio, ratio, ratio, 0.0, 10.0, 10.0 * ratio)


def search(goal: float, truth: Truth, steps: int = 1000, floor: float = 0.0) -> LatencySearch:
    def measure(plan: PrunePlan) -> Comparison:
        return seen(truth(len(plan.cuts[0].keep) / steps))

    return LatencySearch(
        Latency(fraction=goal), goal, lambda value: plan_of(value, steps, floor), measure
    )


@pytest.mark.parametrize(
    "truth",
    [
        lambda v: v,
        lambda v: 0.2 + 0.8 * v,
        lambda v: v**2,
        lambda v: v**0.5,
    ],
)
@pytest.mark.parametrize("goal", [0.4, 0.6, 0.8])
def test_the_goal_is_met_within_the_tolerance(truth: Truth, goal: float) -> None:
    found = search(goal, truth)
    _, trial = found.run()
    assert abs(trial.ratio / goal - 1.0) <= 0.05


def test_where_no_plan_is_near_the_goal_the_next_faster_one_is_taken() -> None:
    found = search(0.8, lambda v: 0.6 * v if v < 0.9 else 1.0)
    _, trial = found.run()
    assert 0.5 < trial.ratio < 0.54


@given(st.floats(0.0, 0.25), st.floats(0.5, 2.5), st.floats(0.4, 0.9))
def test_any_rising_truth_is_met(rest: float, power: float, goal: float) -> None:
    found = search(goal, lambda v: rest + (1.0 - rest) * v**power)
    _, trial = found.run()
    assert abs(trial.ratio / goal - 1.0) <= 0.05
    assert len(found.trials) <= 8


def test_an_estimate_that_is_right_takes_one_measurement() -> None:
    found = search(0.6, lambda v: v)
    found.run()
    assert len(found.trials) == 1


def test_coarse_plans_stay_below_the_goal() -> None:
    found = search(0.5, lambda v: 0.3 if v < 0.75 else 0.9, steps=4)
    plan, trial = found.run()
    assert trial.ratio == 0.3
    assert len(plan.cuts[0].keep) < 3


def test_equal_plans_are_measured_once() -> None:
    found = search(0.5, lambda v: 0.3 if v < 0.75 else 0.9, steps=4)
    found.run()
    assert len(found.trials) == len({trial.ratio for trial in found.trials})


def test_the_floor_is_measured_and_named() -> None:
    found = search(0.2, lambda v: 0.5 + 0.5 * v, floor=0.3)
    with pytest.raises(BudgetError, match=r"--latency 0\.2 cannot be reached.* takes 0\.65"):
        found.run()
    assert found.trials[-1].ratio == pytest.approx(0.65, abs=0.01)


def test_a_floor_that_meets_the_goal_is_taken() -> None:
    found = search(0.3, lambda v: 0.5 * v, floor=0.6)
    _, trial = found.run()
    assert trial.ratio == pytest.approx(0.3, rel=0.05)


def test_where_nothing_helps_it_says_so() -> None:
    found = search(0.5, lambda v: 1.0, floor=0.1)
    with pytest.raises(BudgetError, match=r"--latency 0\.5 cannot be reached"):
        found.run()


def test_a_refusal_of_another_kind_goes_through() -> None:
    def refuse(value: float) -> PrunePlan:
        raise BudgetError("frozen")

    with pytest.raises(BudgetError, match="frozen"):
        LatencySearch(Latency(fraction=0.5), 0.5, refuse, lambda _: seen(1.0)).run()


# ---- what is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "exactly one latency"),
        ({"fraction": 0.5, "ms": 1.0}, "exactly one latency"),
        ({"fraction": 0.0}, r"--latency 0 is outside \(0, 1\)"),
        ({"fraction": 1.0}, r"--latency 1 is outside \(0, 1\)"),
        ({"fraction": float("nan")}, r"--latency nan is outside \(0, 1\)"),
        ({"fraction": "0.5"}, "fraction is '0.5', which is no number"),
        ({"ms": 0.0}, "--latency-ms 0 is no positive"),
        ({"ms": float("inf")}, "--latency-ms inf is no positive"),
        ({"ms": True}, "ms is True, which is no number"),
        ({"fraction": 0.5, "tolerance": 0.0}, "tolerance 0 is outside"),
        ({"fraction": 0.5, "threads": 0}, "threads 0 is no positive"),
        ({"fraction": 0.5, "most_trials": 1.5}, r"most_trials 1\.5 is no positive"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Latency(**options)


def test_milliseconds_become_a_fraction_of_the_original() -> None:
    assert Latency(ms=3.0).goal(12.0) == pytest.approx(0.25)


def test_milliseconds_that_the_original_takes_anyway_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"takes 2\.5 ms: --latency-ms 3 is met without a cut"):
        Latency(ms=3.0).goal(2.5)
