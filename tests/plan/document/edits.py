"""A plan file as a dictionary, and what the tests find and change in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import onnx_scsp
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.model import Model

Document = dict[str, Any]
Edit = Callable[[Document], object]


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


def refusal(document: Document, model: Model) -> str:
    with pytest.raises(PlanError) as caught:
        apply(document, model)
    return str(caught.value)
