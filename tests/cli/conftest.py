"""Fixtures for the command line tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from onnx_scsp.cli.app import app
from onnx_scsp.measure.compare import Comparison

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "digits_bn.onnx"


@pytest.fixture
def model() -> Path:
    return MODEL


@pytest.fixture
def run() -> Callable[..., Result]:
    runner = CliRunner()

    def call(*arguments: object) -> Result:
        return runner.invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def run_json(run: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    def call(*arguments: object) -> dict[str, Any]:
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return call


@pytest.fixture(autouse=True)
def quick_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every result is as fast as the gate wishes: no test here is about real timings."""
    faster = Comparison(0.5, 0.49, 0.51, 0.02, 2.0, 1.0)
    monkeypatch.setattr("onnx_scsp.speed.gated.comparer", lambda **_: lambda _a, _b: faster)
