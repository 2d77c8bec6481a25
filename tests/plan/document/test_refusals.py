"""Plan files that contradict themselves or the model are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from graph.small import DIGITS

import onnx_scsp
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.model import Model
from plan.document.edits import Document, Edit, an_absorption, apply, cut_group, dropped, refusal


def _absorb_by_removed(group: Document) -> None:
    group["absorbed_by"][an_absorption(group)[0]] = dropped(group)


def _absorbed_by(group: Document, survivor: object) -> None:
    group["absorbed_by"][an_absorption(group)[0]] = survivor


def _absorbs(group: Document, unit: str) -> None:
    group["absorbed_by"][unit] = group["keep"][0]


def _absorb_kept(group: Document) -> None:
    group["absorbed_by"][str(group["keep"][0])] = group["keep"][1]


def _member(group: Document, **change: object) -> None:
    group["members"][0].update(change)


GROUP_EDITS: dict[str, Callable[[Document], object]] = {
    "keep is empty": lambda g: g.update(keep=[], absorbed_by={}, scales={}),
    "keep names a unit twice": lambda g: g["keep"].append(g["keep"][0]),
    "keep is beyond the group": lambda g: g["keep"].append(g["units"]),
    "keep is negative": lambda g: g["keep"].append(-1),
    "keep holds a fraction": lambda g: g["keep"].__setitem__(0, 0.5),
    "keep holds a whole float": lambda g: g["keep"].__setitem__(0, float(g["keep"][0])),
    "keep holds text": lambda g: g["keep"].__setitem__(0, str(g["keep"][0])),
    "keep holds a boolean": lambda g: g["keep"].__setitem__(0, True),
    "keep holds null": lambda g: g["keep"].__setitem__(0, None),
    "keep is a number": lambda g: g.update(keep=5),
    "keep is null": lambda g: g.update(keep=None),
    "keep is huge": lambda g: g["keep"].append(10**30),
    "absorbed by a removed unit": _absorb_by_removed,
    "a kept unit is absorbed": _absorb_kept,
    "absorbed by itself": lambda g: _absorbed_by(g, int(an_absorption(g)[0])),
    "absorbed by a boolean": lambda g: _absorbed_by(g, True),
    "absorbed by a fraction": lambda g: _absorbed_by(g, 0.5),
    "absorbed unit beyond the group": lambda g: _absorbs(g, str(g["units"])),
    "absorbed unit is negative": lambda g: _absorbs(g, "-1"),
    "absorbed unit is no number": lambda g: _absorbs(g, "first"),
    "absorbed unit has a leading zero": lambda g: _absorbs(g, "0" + an_absorption(g)[0]),
    "absorbed unit is blank": lambda g: _absorbs(g, ""),
    "absorbed_by is a number": lambda g: g.update(absorbed_by=3),
    "scales without absorption": lambda g: g.update(absorbed_by={}),
    "scale of a kept unit": lambda g: g["scales"].update({str(g["keep"][0]): 1.0}),
    "scale is text": lambda g: g["scales"].update({an_absorption(g)[0]: "2.0"}),
    "scale is a boolean": lambda g: g["scales"].update({an_absorption(g)[0]: True}),
    "scale is not finite": lambda g: g["scales"].update({an_absorption(g)[0]: float("nan")}),
    "scale is infinite": lambda g: g["scales"].update({an_absorption(g)[0]: float("inf")}),
    "scale is huge": lambda g: g["scales"].update({an_absorption(g)[0]: 10**400}),
    "units changed": lambda g: g.update(units=g["units"] + 1),
    "units is a fraction": lambda g: g.update(units=g["units"] + 0.5),
    "units is text": lambda g: g.update(units=str(g["units"])),
    "profile too short": lambda g: g["profile"].pop(),
    "profile changed": lambda g: g["profile"].__setitem__(0, 1),
    "profile holds a fraction": lambda g: g["profile"].__setitem__(0, 0.5),
    "profile is huge": lambda g: g["profile"].__setitem__(0, 10**30),
    "unknown group": lambda g: g.update(id="g99"),
    "another group's name": lambda g: g.update(id="g01" if g["id"] != "g01" else "g02"),
    "a member is missing": lambda g: g["members"].pop(),
    "no members": lambda g: g.update(members=[]),
    "a member twice": lambda g: g["members"].append(g["members"][0]),
    "members in another order": lambda g: g["members"].reverse(),
    "member's tensor renamed": lambda g: _member(g, tensor="other"),
    "member's axis changed": lambda g: _member(g, axis=1),
    "member's axis is negative": lambda g: _member(g, axis=-4),
    "member's axis is text": lambda g: _member(g, axis="0"),
    "member's role changed": lambda g: _member(g, role="reads"),
    "member's role unknown": lambda g: _member(g, role="eats"),
    "member's unit out of range": lambda g: g["members"][0]["units"].__setitem__(0, g["units"]),
    "member's unit below -1": lambda g: g["members"][0]["units"].__setitem__(0, -2),
    "member's units swapped": lambda g: g["members"][0]["units"].reverse(),
    "member's units shortened": lambda g: g["members"][0]["units"].pop(),
    "member's unit is a fraction": lambda g: g["members"][0]["units"].__setitem__(0, 0.25),
    "member's units are nested": lambda g: _member(g, units=[g["members"][0]["units"]]),
    "member's units are null": lambda g: _member(g, units=None),
    "member's uses invented": lambda g: _member(g, uses=["0:1"]),
    "a member is text": lambda g: g["members"].__setitem__(0, "w"),
    "no id": lambda g: g.pop("id"),
    "no units": lambda g: g.pop("units"),
    "no keep": lambda g: g.pop("keep"),
    "members not there": lambda g: g.pop("members"),
    "member without tensor": lambda g: g["members"][0].pop("tensor"),
    "member without axis": lambda g: g["members"][0].pop("axis"),
    "member without role": lambda g: g["members"][0].pop("role"),
    "member without units": lambda g: g["members"][0].pop("units"),
}  # fmt: skip

DOCUMENT_EDITS: dict[str, Edit] = {
    "another model's hash": lambda d: d.update(model_sha256="0" * 64),
    "no hash": lambda d: d.pop("model_sha256"),
    "another schema": lambda d: d.update(schema=2),
    "no schema": lambda d: d.pop("schema"),
    "a group twice": lambda d: d["groups"].append(d["groups"][0]),
    "groups as an object": lambda d: d.update(groups={"g00": d["groups"][0]}),
    "a group as text": lambda d: d["groups"].append("g00"),
    "no groups": lambda d: d.pop("groups"),
    "no config": lambda d: d.pop("config"),
    "config as text": lambda d: d.update(config="macs"),
    "ignore as text": lambda d: d["config"].update(ignore="conv*"),
    "ignore as number": lambda d: d["config"].update(ignore=3),
    "ignore as null": lambda d: d["config"].update(ignore=None),
    "value as text": lambda d: d["config"].update(value="half"),
    "no frozen list": lambda d: d.pop("frozen"),
    "an unknown reason": lambda d: d["frozen"][0].update(reason="BAD_MOOD"),
    "frozen without a node": lambda d: d["frozen"][0].pop("node"),
}


@pytest.mark.parametrize("edit", GROUP_EDITS)
def test_a_group_that_contradicts_itself_or_the_model_is_refused(
    edit: str, document: Document, model: Model
) -> None:
    GROUP_EDITS[edit](cut_group(document))
    assert "\n" not in refusal(document, model)


@pytest.mark.parametrize("edit", DOCUMENT_EDITS)
def test_a_document_that_contradicts_itself_or_the_model_is_refused(
    edit: str, document: Document, model: Model
) -> None:
    DOCUMENT_EDITS[edit](document)
    assert "\n" not in refusal(document, model)


def test_a_key_spelled_twice_is_refused(text: str, model: Model) -> None:
    twice = text.replace('"keep": [', '"keep": [0], "keep": [', 1)
    with pytest.raises(PlanError, match="'keep' occurs twice"):
        apply(twice, model)


def test_the_refusal_names_the_group(document: Document, model: Model) -> None:
    group = cut_group(document)
    group["keep"].append(group["units"])
    assert group["id"] in refusal(document, model)


def test_nothing_is_written_for_a_refused_plan(document: Document, tmp_path: Path) -> None:
    document["model_sha256"] = "0" * 64
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    with pytest.raises(PlanError):
        onnx_scsp.prune(DIGITS / "digits_bn.onnx", tmp_path / "out.onnx", plan=plan)
    assert list(tmp_path.iterdir()) == []
