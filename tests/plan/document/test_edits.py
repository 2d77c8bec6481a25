"""Plan files edited by hand, consistently, and units that occur more than once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.small import DIGITS, image, initializers, one_input, run, write
from onnx import helper, numpy_helper

import onnx_scsp
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.model import Model
from plan.document.edits import Document, an_absorption, apply, cut_group, refusal


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
