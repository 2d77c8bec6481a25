"""The plan file: what it says and what it survives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from graph.small import DIGITS, initializers
from onnx import numpy_helper

import onnx_scsp
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.model import Model
from plan.document.edits import Document, apply


def test_reading_what_was_written_gives_the_same_text(text: str) -> None:
    assert onnx_scsp.plan_to_json(onnx_scsp.plan_from_json(text)) == text


def test_a_plan_without_cuts_or_frozen_layers_survives_too(text: str) -> None:
    document = json.loads(text) | {"groups": [], "frozen": []}
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    assert onnx_scsp.plan_from_json(onnx_scsp.plan_to_json(plan)) == plan
    assert plan.cuts == ()


def test_the_keys_of_the_contract_are_there(document: Document) -> None:
    assert set(document) == {"schema", "model_sha256", "config", "timing", "groups", "frozen"}
    group = {"id", "units", "keep", "absorbed_by", "score", "members"}
    assert all(group <= set(entry) for entry in document["groups"])
    member = {"tensor", "axis", "role", "units"}
    assert all(member <= set(m) for entry in document["groups"] for m in entry["members"])
    assert all({"node", "reason", "detail"} <= set(entry) for entry in document["frozen"])
    assert document["schema"] == 1


def test_the_hash_is_that_of_the_file(document: Document, model: Model) -> None:
    assert document["model_sha256"] == model.sha256


def test_members_address_axes_of_tensors_in_the_file(document: Document, model: Model) -> None:
    stored = initializers(model.proto)
    members = [member for group in document["groups"] for member in group["members"]]
    assert members
    assert all(len(m["units"]) == stored[m["tensor"]].dims[m["axis"]] for m in members)


def test_removing_the_named_entries_is_the_whole_cut(document: Document, model: Model) -> None:
    """Someone who only reads the file gets the shapes that the package writes."""
    arrays = {n: numpy_helper.to_array(t) for n, t in initializers(model.proto).items()}
    for group in document["groups"]:
        keep = set(group["keep"])
        for member in group["members"]:
            stays = [i for i, unit in enumerate(member["units"]) if unit in keep or unit < 0]
            arrays[member["tensor"]] = np.take(arrays[member["tensor"]], stays, member["axis"])
    found = {n: tuple(t.dims) for n, t in initializers(apply(document, model).proto).items()}
    assert found == {name: array.shape for name, array in arrays.items()}


def test_scores_are_shares(document: Document) -> None:
    assert all(0.0 <= group["score"] <= 1.0 for group in document["groups"])


def test_a_group_is_one_line(text: str) -> None:
    assert sum(line.strip().startswith('{"id"') for line in text.splitlines()) == 8


def test_the_configuration_is_recorded(document: Document) -> None:
    wanted = onnx_scsp.PruneConfig().resolved(has_data=False)
    assert document["config"] == wanted.as_dict()


@pytest.mark.parametrize("method", ["scsp", "one-per-cluster", "l2", "random"])
def test_the_same_configuration_gives_the_same_bytes(method: str) -> None:
    config = onnx_scsp.PruneConfig(method=method, seed=3)
    models = [onnx_scsp.load(DIGITS / "digits_bn.onnx") for _ in range(2)]
    first, second = (onnx_scsp.plan_to_json(onnx_scsp.make_plan(m, config)) for m in models)
    assert first == second


def test_a_plan_file_is_read_from_disk(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    plan = onnx_scsp.read_plan(tmp_path / "plan.json")
    assert onnx_scsp.plan_to_json(plan) == text


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "7", '"plan"', "{}", "not json at all", '{"schema": 2}',
        '{"schema": "1"}', '{"schema": 1}', '{"schema": true, "groups": [], "frozen": []}',
        '{"schema": 1.0, "model_sha256": "", "config": {}, "groups": [], "frozen": []}',
        '{"schema": 1, "schema": 1, "model_sha256": "", "config": {}, "groups": [], "frozen": []}',
        "[" * 100_000, '{"schema": ' + "1" * 5000 + "}",
    ],
    ids=lambda content: content[:24],
)  # fmt: skip
def test_text_that_is_no_plan_is_refused(content: str) -> None:
    with pytest.raises(PlanError) as caught:
        onnx_scsp.plan_from_json(content)
    assert "\n" not in str(caught.value)


def test_a_syntax_error_is_located() -> None:
    with pytest.raises(PlanError, match="line 2, column 3"):
        onnx_scsp.plan_from_json("{\n  oops\n}")


def test_a_missing_plan_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"absent\.json cannot be read"):
        onnx_scsp.read_plan(tmp_path / "absent.json")


def test_a_binary_plan_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="not UTF-8"):
        onnx_scsp.read_plan(tmp_path / "plan.json")
