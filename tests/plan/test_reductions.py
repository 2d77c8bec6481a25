"""Groups that a node runs over without a weight: what the plan says of them, what it may not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from net_builder import image

import onnx_scsp
from onnx_scsp.errors import PlanError
from onnx_scsp.report.inspection import inspection_json

WIDTH = 12
Document = dict[str, Any]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A gate made from the mean over channels; half of the channels are copies of the others."""
    n, x = image()
    w = n.random(WIDTH, 3, 3, 3, fan_in=27)
    n.weights[w][WIDTH // 2 :] = n.weights[w][: WIDTH // 2]
    y = n.op("Conv", x, w, channels=WIDTH, pads=[1, 1, 1, 1])
    mean = n.op("ReduceMean", n.relu(y), axes=[1])
    n.channels[mean] = 1
    y = n.op("Mul", y, n.op("Sigmoid", n.conv(mean, 1)))
    n.channels[y] = WIDTH
    path = tmp_path / "in.onnx"
    onnx.save(n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5]), str(path))
    return path


def plan_of(source: Path) -> onnx_scsp.PrunePlan:
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, compensate="merge")
    return onnx_scsp.make_plan(onnx_scsp.load(source), config)


def first_group(document: Document) -> Document:
    return next(group for group in document["groups"] if "reductions" in group)


def test_the_plan_names_the_value_and_owns_every_entry(source: Path) -> None:
    (reduction,) = first_group(json.loads(onnx_scsp.plan_to_json(plan_of(source))))["reductions"]
    assert reduction["axis"] == 1
    assert sorted(reduction["units"]) == list(range(WIDTH))
    assert "restricted" not in reduction


def test_inspect_names_what_runs_over_the_group(source: Path) -> None:
    found = inspection_json(onnx_scsp.find_groups(onnx_scsp.load(source)))
    (group,) = [group for group in found["groups"] if group["reductions"]]
    (reduction,) = group["reductions"]
    assert reduction["axis"] == 1
    assert reduction["use"].endswith(":0")


def test_a_plan_that_was_read_says_the_same(source: Path) -> None:
    text = onnx_scsp.plan_to_json(plan_of(source))
    assert onnx_scsp.plan_to_json(onnx_scsp.plan_from_json(text)) == text


def test_copies_are_not_merged_there(source: Path) -> None:
    plan = plan_of(source)
    (group,) = [group for group in plan.groups if group.reductions]
    (cut,) = [cut for cut in plan.cuts if cut.group == group.id]
    assert len(cut.keep) == WIDTH // 2
    assert not cut.absorbed_by


def test_a_plan_that_merges_there_is_refused(source: Path) -> None:
    document = json.loads(onnx_scsp.plan_to_json(plan_of(source)))
    group = first_group(document)
    gone = min(set(range(WIDTH)) - set(group["keep"]))
    group["absorbed_by"] = {str(gone): group["keep"][0]}
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    with pytest.raises(PlanError, match=r"ReduceMean.*without a weight"):
        onnx_scsp.apply_plan(onnx_scsp.load(source), plan)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("units", [WIDTH] * WIDTH, "out of range"),
        ("use", "3", "no 'node:input' place"),
        ("use", "three:0", "no 'node:input' place"),
    ],
)
def test_a_reduction_that_makes_no_sense_is_refused(
    key: str, value: object, words: str, source: Path
) -> None:
    document = json.loads(onnx_scsp.plan_to_json(plan_of(source)))
    first_group(document)["reductions"][0][key] = value
    with pytest.raises(PlanError, match=words):
        onnx_scsp.plan_from_json(json.dumps(document))


def test_another_reduction_than_the_models_is_refused(source: Path) -> None:
    document = json.loads(onnx_scsp.plan_to_json(plan_of(source)))
    del first_group(document)["reductions"]
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    with pytest.raises(PlanError, match="not as the model has it"):
        onnx_scsp.apply_plan(onnx_scsp.load(source), plan)
