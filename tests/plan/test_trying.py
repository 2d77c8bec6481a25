"""Several criteria choose for a group; what they do on held-out inputs decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import NETS

import onnx_scsp
from onnx_scsp.calibration import open_calibration
from onnx_scsp.describe import CRITERIA
from onnx_scsp.observe import PoolEvidence
from onnx_scsp.plan import METHODS, Tools, plan_from_json, plan_to_json
from onnx_scsp.types import BoolArray, FloatArray
from onnx_scsp.units import UnitTable
from plan.tables import directions, table, tools

PICK = METHODS["auto-criteria"].pick
N = 6


def units() -> UnitTable:
    return replace(table(directions(N)), norm_scale=None, importance=None)


def evidence() -> PoolEvidence:
    order = np.arange(N)  # the last units stay
    return PoolEvidence(order, np.zeros(N + 1), np.zeros(N + 1))


def some(table: UnitTable) -> FloatArray:
    return np.array([3.0, 3.0, 1.0, 1.0, 3.0, 1.0])


def odd(table: UnitTable) -> FloatArray:
    return np.arange(N) % 2 + 1.0


class Trial:
    """Says of each choice how many of some rows it lacks, and remembers what it was asked."""

    def __init__(self, best: set[int]) -> None:
        self.best = best
        self.asked: list[set[int]] = []

    def __call__(self, choices: Sequence[BoolArray]) -> list[float]:
        rows = [set(np.flatnonzero(keep).tolist()) for keep in choices]
        self.asked.extend(rows)
        return [float(len(self.best - kept)) for kept in rows]


def with_trial(trial: Trial | None) -> Tools:
    criteria = {"some": some, "odd": odd, "again": some}
    return replace(tools(), criteria=criteria, trial=trial, evidence=evidence())


@pytest.mark.parametrize(
    ("best", "name"),
    [({0, 1, 4}, "some"), ({1, 3, 5}, "odd"), ({3, 4, 5}, "output-aware")],
)
def test_the_choice_that_does_least_wins_and_is_named(best: set[int], name: str) -> None:
    found = PICK(units(), 3, with_trial(Trial(best)))
    assert set(found.keep.tolist()) == best
    assert found.criterion == name


def test_equal_choices_are_tried_once() -> None:
    trial = Trial({0})
    PICK(units(), 3, with_trial(trial))
    assert trial.asked.count({0, 1, 4}) == 1


def test_where_nothing_is_better_backward_elimination_stands() -> None:
    found = PICK(units(), 3, with_trial(Trial(set())))
    assert (found.criterion, found.keep.tolist()) == ("output-aware", [3, 4, 5])


def test_where_nothing_can_be_tried_backward_elimination_stands() -> None:
    found = PICK(units(), 3, with_trial(None))
    assert (found.criterion, found.keep.tolist()) == ("", [3, 4, 5])


def test_criteria_that_lack_what_they_need_stay_out() -> None:
    lacking = replace(with_trial(Trial({0})), criteria=CRITERIA)
    assert PICK(units(), 3, lacking).keep.size == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(NETS["residual_projection"](), tmp_path / "a.onnx")
    return tmp_path


def test_a_whole_run_records_what_won_and_passes_every_check(folder: Path) -> None:
    model = onnx_scsp.load(folder / "a.onnx")
    rng = np.random.default_rng(0)
    data = open_calibration(rng.standard_normal((48, 3, 8, 8)).astype(np.float32), model)
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, method="auto-criteria")
    result = onnx_scsp.prune(
        model, folder / "b.onnx", config, calibration=data, plan_out=folder / "p.json"
    )
    assert result.report
    known = {"output-aware", "scsp", "one-per-cluster", *CRITERIA}
    assert result.plan.cuts
    assert all(cut.criterion in known for cut in result.plan.cuts)
    written = json.loads((folder / "p.json").read_text())["groups"]
    assert {g["id"]: g.get("criterion") for g in written if "criterion" in g} == {
        cut.group: cut.criterion for cut in result.plan.cuts
    }
    assert plan_from_json(plan_to_json(result.plan)).cuts == result.plan.cuts
