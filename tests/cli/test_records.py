"""Records of options on the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from onnx_scsp.cli.records import flattened
from onnx_scsp.cli.training import TrainingOptions
from onnx_scsp.retrain.options import RetrainConfig


@dataclass(frozen=True, slots=True)
class Frame:
    width: Annotated[int, typer.Option(help="How wide.")]
    colour: Annotated[str, typer.Option(help="Which colour.")] = "black"


def paint(name: Annotated[str, typer.Argument()], *, frame: Frame, twice: bool = False) -> None:
    """Paints."""
    print(name, frame, twice)


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer(add_completion=False)
    app.command()(flattened(paint))
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("a", "--width", "3"), "a Frame(width=3, colour='black') False"),
        (
            ("--colour", "red", "--width", "3", "a", "--twice"),
            "a Frame(width=3, colour='red') True",
        ),
    ],
)
def test_the_fields_of_a_record_are_options(words: tuple[str, ...], printed: str) -> None:
    code, output = run(*words)
    assert (code, output.strip()) == (0, printed)


def test_a_field_without_a_default_has_to_be_given() -> None:
    code, output = run("a")
    assert code == 2
    assert "--width" in output


def test_the_help_is_the_verbs_own() -> None:
    code, output = run("--help")
    assert code == 0
    assert "Paints." in output
    assert "How wide." in output


def test_the_options_of_retrain_are_those_of_its_configuration() -> None:
    """So that a field that is added there is not forgotten here, nor another default given."""
    options = {option.name: option.default for option in fields(TrainingOptions)}
    wanted = {option.name: option.default for option in fields(RetrainConfig)}
    del wanted["seed"]
    assert options == wanted
