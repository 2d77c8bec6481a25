"""The plan of a small network: as text, as a dictionary."""

from __future__ import annotations

import json

import pytest
from graph.small import DIGITS

import onnx_scsp
from onnx_scsp.graph.model import Model
from plan.document.edits import Document


@pytest.fixture(scope="module")
def model() -> Model:
    return onnx_scsp.load(DIGITS / "digits_bn.onnx")


@pytest.fixture(scope="module")
def text(model: Model) -> str:
    return onnx_scsp.plan_to_json(onnx_scsp.make_plan(model))


@pytest.fixture
def document(text: str) -> Document:
    return json.loads(text)
