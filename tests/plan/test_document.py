"""The plan file: what it says, what it survives, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph.small import DIGITS, image, initializers, one_input, run, write
from onnx import helper, numpy_helper

import onnx_scsp
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.model import Model

Document = dict[str, Any]
Edit = Callable[[Document], object]


@pytest.fixture(scope="module")
def model() -> Model:
    return onnx_scsp.load(DIGITS / "digits_bn.onnx")


@pytest.fixture(scope="module")
def text(model: Model) -> str:
    return onnx_scsp.plan_to_json(onnx_scsp.make_plan(model))


@pytest.fixture
def document(text: str) -> Document:
    return json.loads(text)


def cut_group(document: Document) -> Document:
    """The first group that loses units, some of which are absorbed."""
    return next(g for g in document["groups"] if g["absorbed_by"] and len(g["keep"]) > 2)


def an_absorption(group: Document) -> tuple[str, int]:
    return next(iter(group["absorbed_by"].items()))


def dropped(group: Document) -> int:
    """A unit that is removed and absorbed by nobody, or else any removed one."""
    gone = set(range(group["units"])) - set(group["keep"])
    return min(gone - {int(unit) for unit in group["absorbed_by"]} or gone)


def apply(document: Document | str, model: Model, **more: object) -> onnx_scsp.PrunedModel:
    text = document if isinstance(document, str) else json.dumps(document)
    return onnx_scsp.apply_plan(model, onnx_scsp.plan_from_json(text), **more)


# ---- contents -------------------------------------------------------------------------------


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


# ---- files that are no plan -----------------------------------------------------------------


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


# ---- edits that contradict ------------------------------------------------------------------


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


def refusal(document: Document, model: Model) -> str:
    with pytest.raises(PlanError) as caught:
        apply(document, model)
    return str(caught.value)


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


# ---- edits that are consistent --------------------------------------------------------------


def _drop_absorption(group: Document) -> None:
    unit, _ = an_absorption(group)
    del group["absorbed_by"][unit]
    del group["scales"][unit]


def _drop_scale(group: Document) -> None:
    del group["scales"][an_absorption(group)[0]]


def _other_keep(group: Document) -> None:
    group.update(keep=list(range(group["units"] // 2, group["units"])), absorbed_by={}, scales={})


def _bring_back(group: Document) -> None:
    unit, _ = an_absorption(group)
    del group["absorbed_by"][unit]
    del group["scales"][unit]
    group["keep"].append(int(unit))


def _other_survivor(group: Document) -> None:
    unit, survivor = an_absorption(group)
    group["absorbed_by"][unit] = next(u for u in group["keep"] if u != survivor)


def _keep_all(group: Document) -> None:
    group.update(keep=list(range(group["units"])), absorbed_by={}, scales={})


CONSISTENT: dict[str, Callable[[Document], object]] = {
    "absorption removed": _drop_absorption,
    "scale removed": _drop_scale,
    "all absorptions removed": lambda g: g.update(absorbed_by={}, scales={}),
    "another keep set": _other_keep,
    "keep in another order": lambda g: g["keep"].reverse(),
    "a unit brought back": _bring_back,
    "another survivor": _other_survivor,
    "a negative scale": lambda g: g["scales"].update({an_absorption(g)[0]: -0.5}),
    "one unit left": lambda g: g.update(keep=[3], absorbed_by={}, scales={}),
    "the group left whole": _keep_all,
    "no score": lambda g: g.pop("score"),
    "no layers": lambda g: g.pop("layers"),
    "no absorption keys": lambda g: (g.pop("absorbed_by"), g.pop("scales")),
}


@pytest.mark.parametrize("edit", CONSISTENT)
def test_a_consistent_edit_is_carried_out_and_verified(
    edit: str, document: Document, tmp_path: Path
) -> None:
    group = cut_group(document)
    CONSISTENT[edit](group)
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    result = onnx_scsp.prune(DIGITS / "digits_bn.onnx", tmp_path / "out.onnx", plan=plan)
    assert result.report
    weight = group["members"][0]["tensor"]
    assert initializers(onnx.load(result.output))[weight].dims[0] == len(group["keep"])


def test_a_group_that_the_plan_leaves_out_stays_whole(document: Document, model: Model) -> None:
    gone = document["groups"].pop(0)
    weight = gone["members"][0]["tensor"]
    assert initializers(apply(document, model).proto)[weight].dims[0] == gone["units"]


def test_other_weights_of_the_same_graph_are_accepted_on_request(text: str, tmp_path: Path) -> None:
    proto = onnx.load(DIGITS / "digits_bn.onnx")
    weight = initializers(proto)["stem.conv.weight"]
    weight.raw_data = (numpy_helper.to_array(weight) * 2.0).tobytes()
    retrained = onnx_scsp.load(write(proto, tmp_path / "retrained.onnx"))
    with pytest.raises(PlanError, match="--same-graph"):
        apply(text, retrained)
    assert apply(text, retrained, same_graph=True).proto is not None


# ---- several profiles -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight channels, the first four of which are concatenated to themselves once more."""
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((8, 3, 1, 1)).astype("f4"),
        "b": rng.standard_normal((5, 12, 1, 1)).astype("f4"),
        "from": np.array([0]),
        "to": np.array([4]),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "first"),
        helper.make_node("Slice", ["h", "from", "to", "axis"], ["half"], "slice"),
        helper.make_node("Concat", ["h", "half"], ["joined"], "concat", axis=1),
        helper.make_node("Conv", ["joined", "b"], ["y"], "second"),
    ]
    return write(one_input(nodes, arrays), tmp_path_factory.mktemp("uneven") / "in.onnx")


def uneven_document(path: Path) -> Document:
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, merge_threshold=0.0)
    plan = onnx_scsp.make_plan(onnx_scsp.load(path), config)
    return json.loads(onnx_scsp.plan_to_json(plan))


def test_units_that_occur_twice_have_a_profile_of_their_own(uneven: Path) -> None:
    assert uneven_document(uneven)["groups"][0]["profile"] == [0] * 4 + [1] * 4


def test_every_profile_keeps_its_share(uneven: Path) -> None:
    keep = uneven_document(uneven)["groups"][0]["keep"]
    assert [sum(unit < 4 for unit in keep), sum(unit >= 4 for unit in keep)] == [2, 2]


def test_emptying_an_activation_is_refused_by_name(uneven: Path) -> None:
    document = uneven_document(uneven)
    document["groups"][0].update(keep=[4, 5], absorbed_by={}, scales={})
    told = refusal(document, onnx_scsp.load(uneven))
    assert told == (
        "the plan would leave the channels of 'half' empty; keep at least one of its units "
        "(group g00)"
    )


def test_a_profile_without_which_no_axis_is_empty_may_go(uneven: Path, tmp_path: Path) -> None:
    document = uneven_document(uneven)
    document["groups"][0].update(keep=[0, 1, 2, 3], absorbed_by={}, scales={})
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    result = onnx_scsp.prune(uneven, tmp_path / "out.onnx", plan=plan)
    assert result.layers["first"] == (8, 4)


def test_absorbing_across_profiles_is_refused(uneven: Path) -> None:
    document = uneven_document(uneven)
    document["groups"][0].update(keep=[0, 4], absorbed_by={"1": 4}, scales={})
    assert "profiles differ" in refusal(document, onnx_scsp.load(uneven))


def test_absorbing_within_a_profile_is_carried_out(uneven: Path, tmp_path: Path) -> None:
    document = uneven_document(uneven)
    document["groups"][0].update(keep=[0, 4], absorbed_by={"1": 0, "6": 4}, scales={"1": 0.5})
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    result = onnx_scsp.prune(uneven, tmp_path / "out.onnx", plan=plan)
    assert result.report
    feeds = {"x": image()["image"]}
    assert run(result.output, feeds)["y"].shape == (2, 5, 8, 8)
