"""A plan from somewhere else: places that the model does not have are told, not stumbled over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from net_builder import image

import onnx_scsp
from onnx_scsp.errors import PlanError

WIDTH = 12
Document = dict[str, Any]
Files = tuple[Path, Path, str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A network with a gate made from a mean over channels, its result, and the plan's text."""
    folder = tmp_path_factory.mktemp("places")
    n, x = image()
    y = n.conv(x, WIDTH)
    mean = n.op("ReduceMean", n.relu(y), axes=[1])
    n.channels[mean] = 1
    y = n.op("Mul", y, n.op("Sigmoid", n.conv(mean, 1)))
    n.channels[y] = WIDTH
    onnx.save(n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5]), folder / "a.onnx")
    config = onnx_scsp.PruneConfig(target="ratio", align=1, synthetic=False)
    onnx_scsp.prune(folder / "a.onnx", folder / "b.onnx", config, plan_out=folder / "p.json")
    return folder / "a.onnx", folder / "b.onnx", (folder / "p.json").read_text()


def verify(files: Files, document: Document) -> onnx_scsp.VerifyReport:
    a, b, _ = files
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    return onnx_scsp.verify(onnx_scsp.load(a), onnx_scsp.load(b), plan)


def group_of(document: Document) -> Document:
    return next(group for group in document["groups"] if "reductions" in group)


EDITS: dict[str, tuple[Callable[[Document], object], str]] = {
    "a constant that is not there": (
        lambda g: g["members"][0].update(tensor="nope"), "'nope' is no constant"),
    "an axis that is not there": (
        lambda g: g["members"][0].update(axis=9), "speaks of axis 9"),
    "too few units": (
        lambda g: g["members"][0].update(units=[0, 1]), "12 entries on axis 0"),
    "a use at a node that is not there": (
        lambda g: g["members"][0].update(uses=["999:1"]), "used at '999:1'"),
    "a use that is no place": (
        lambda g: g["members"][0].update(uses=["x"]), "used at 'x'"),
    "a reduction at a node that is not there": (
        lambda g: g["reductions"][0].update(use="999:0"), "used at '999:0'"),
    "a reduction at an input that is not there": (
        lambda g: g["reductions"][0].update(use="2:5"), "used at '2:5'"),
    "a reduction of another value": (
        lambda g: g["reductions"][0].update(value="nope"), "not what the model has at"),
}  # fmt: skip


def test_the_plan_as_it_was_made_is_good(files: Files) -> None:
    assert verify(files, json.loads(files[2]))


@pytest.mark.parametrize("edit", EDITS)
def test_a_place_that_the_model_does_not_have_is_told(edit: str, files: Files) -> None:
    document = json.loads(files[2])
    change, words = EDITS[edit]
    change(group_of(document))
    with pytest.raises(PlanError, match=words) as caught:
        verify(files, document)
    assert "\n" not in str(caught.value)
