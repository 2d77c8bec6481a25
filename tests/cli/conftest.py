"""Fixtures for the command line tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from onnx_scsp.cli.app import app

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
