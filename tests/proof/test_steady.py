"""A jump that rounding alone makes, where an output picks and sorts, is no proof of a mistake."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from onnx_scsp.config import VerifyConfig
from onnx_scsp.graph.load import from_proto
from onnx_scsp.proof import oracles
from onnx_scsp.proof.compare import difference
from onnx_scsp.types import AnyArray

LIMIT = 1e-4
FEEDS = {"x": np.array([[1.0, 2.0, 3.0]], np.float32)}
BATCH = oracles._Batch(FEEDS, {}, 0.0, LIMIT)


def smooth(feeds: oracles.Feeds) -> dict[str, AnyArray]:
    return {"y": feeds["x"] * 2.0}


def picking(feeds: oracles.Feeds) -> dict[str, AnyArray]:
    """Which of two candidates is larger; they are level but for rounding."""
    first, second = feeds["x"][0, 0], feeds["x"][0, 1] / np.float32(2.0)
    return {"y": np.array([1.0, 0.0] if first >= second else [0.0, 1.0])}


def counting(feeds: oracles.Feeds) -> dict[str, AnyArray]:
    """As many entries as exceed what they exceed by a rounding step."""
    return {"y": feeds["x"][feeds["x"] >= 1.0]}


def outcome(run: oracles.Run, other: AnyArray) -> oracles._Outcome:
    outputs = run(FEEDS)
    return oracles._outcome(run, BATCH, outputs, difference(outputs, {"y": other}))


def test_equal_outputs_pass_and_show_it() -> None:
    found = outcome(smooth, smooth(FEEDS)["y"])
    assert found.passed
    assert found.steady


@pytest.mark.parametrize("factor", [1.001, 1.5, -1.0])
def test_a_difference_that_rounding_does_not_make_is_a_mistake(factor: float) -> None:
    found = outcome(smooth, smooth(FEEDS)["y"] * factor)
    assert not found.passed
    assert found.steady


def test_another_pick_between_level_candidates_shows_nothing() -> None:
    found = outcome(picking, np.array([0.0, 1.0]))
    assert not found.passed
    assert not found.steady


def test_another_number_of_picks_shows_nothing() -> None:
    found = outcome(counting, FEEDS["x"][0, 1:])
    assert not found.passed
    assert not found.steady


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 1e-5), (np.float16, 2e-3)])
def test_no_step_is_larger_than_rounding(dtype: type, largest: float) -> None:
    feeds = {"x": np.full((1, 9), 1.5, dtype), "n": np.arange(3)}
    nudged = oracles._nudged(feeds, oracles._JOLTS[-1])
    change = np.abs(nudged["x"].astype(np.float64) / 1.5 - 1.0)
    assert 0.0 < change.max() <= largest
    assert np.array_equal(nudged["n"], feeds["n"])


PASSED = oracles._Outcome(1e-6, LIMIT, True, True)
FAILED = oracles._Outcome(0.5, LIMIT, False, True)
JUMPED = oracles._Outcome(0.7, LIMIT, False, False)


@pytest.mark.parametrize(
    ("outcomes", "passed", "largest"),
    [
        ([PASSED, PASSED], True, 1e-6),
        ([PASSED, FAILED], False, 0.5),
        ([PASSED, JUMPED], True, 1e-6),
        ([FAILED, JUMPED], False, 0.5),
        ([JUMPED, JUMPED], False, 0.7),  # nothing is shown: that is no proof
    ],
)
def test_the_worst_batch_that_shows_anything_decides(
    outcomes: list[oracles._Outcome], passed: bool, largest: float
) -> None:
    check = oracles._verdict("masked twin", outcomes, "")
    assert (check.passed, check.value) == (passed, largest)


@pytest.mark.parametrize(("steady", "counts"), [(True, [3]), (False, [3, 24])])
def test_more_inputs_are_tried_where_rounding_decides_them_all(
    steady: bool, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def batches(*given: object) -> list[oracles._Batch]:
        tried.append(int(str(given[-1])))
        return [BATCH] * tried[-1]

    outcome = oracles._Outcome(1.0, LIMIT, passed=False, steady=steady)
    monkeypatch.setattr(oracles, "_batches", batches)
    monkeypatch.setattr(oracles, "_outputs", lambda *_: [])
    monkeypatch.setattr(oracles, "_compare", lambda *given: [outcome] * len(given[3]))
    model = from_proto(helper.make_model(helper.make_graph([], "g", [], [])))
    found = oracles.reference(model, (), (), VerifyConfig(), 1)
    assert tried == counts
    assert len(found.moved) == counts[-1]
