"""--method, --criterion, --affinity and --importance on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import onnx_scsp
from onnx_scsp.cli import options
from onnx_scsp.describe import AFFINITIES, CRITERIA
from onnx_scsp.partition import CLUSTERERS
from onnx_scsp.plan import COMPENSATORS, METHODS

Run = Callable[..., Result]
BUDGET = ("--ratio", "0.5", "--no-synthetic")


def scores(model: Path, folder: Path) -> Path:
    proto = onnx_scsp.load(model).proto
    found = {t.name: np.arange(t.dims[0], 0.0, -1.0) for t in proto.graph.initializer if t.dims}
    np.savez(folder / "s.npz", **found)
    return folder / "s.npz"


def help_of(option: object) -> str:
    return str(option.__metadata__[0].help)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("option", "names"),
    [
        (options.CriterionOpt, CRITERIA),
        (options.AffinityOpt, AFFINITIES),
        (options.ClustererOpt, CLUSTERERS),
        (options.CompensateOpt, COMPENSATORS),
        (options.MethodOpt, set(METHODS) - set(CRITERIA)),
    ],
)
def test_the_help_names_every_entry_of_a_table(option: object, names: set[str]) -> None:
    assert [name for name in names if name not in help_of(option)] == []


def test_the_plan_records_what_was_chosen(model: Path, tmp_path: Path, run: Run) -> None:
    plan = tmp_path / "p.json"
    found = run("plan", model, "-o", plan, *BUDGET, "--method", "one-per-cluster",
                "--criterion", "fpgm")  # fmt: skip
    assert found.exit_code == 0, found.output
    config = json.loads(plan.read_text())["config"]
    assert (config["method"], config["criterion"]) == ("one-per-cluster", "fpgm")
    assert config["affinity"] == "weights"


def test_scores_from_a_file_decide(model: Path, tmp_path: Path, run: Run) -> None:
    plan = tmp_path / "p.json"
    found = run("plan", model, "-o", plan, *BUDGET, "--method", "importance", "--importance",
                scores(model, tmp_path))  # fmt: skip
    assert found.exit_code == 0, found.output
    groups = json.loads(plan.read_text())["groups"]
    assert all(group["keep"] == list(range(len(group["keep"]))) for group in groups)


def test_prune_takes_scores_too(model: Path, tmp_path: Path, run: Run) -> None:
    found = run("prune", model, "-o", tmp_path / "b.onnx", *BUDGET, "--method", "importance",
                "--importance", scores(model, tmp_path))  # fmt: skip
    assert found.exit_code == 0, found.output
    assert (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "importance"), "give --importance"),
        (("--method", "reap"), "works from sample inputs"),
        (("--criterion", "hrank"), "works from sample inputs"),
        (("--affinity", "functional"), "works from sample inputs"),
        (("--criterion", "best"), "use one of energy"),
        (("--affinity", "best"), "use one of weights"),
        (("--importance", "absent.npz"), "absent.npz cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    arguments: tuple[str, ...], words: str, model: Path, tmp_path: Path, run: Run
) -> None:
    found = run("prune", model, "-o", tmp_path / "b.onnx", *BUDGET, *arguments)
    assert found.exit_code == 2, found.output
    assert words in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "b.onnx").exists()


def test_scores_without_the_criterion_are_refused(model: Path, tmp_path: Path, run: Run) -> None:
    found = run("prune", model, "-o", tmp_path / "b.onnx", *BUDGET, "--importance",
                scores(model, tmp_path))  # fmt: skip
    assert found.exit_code == 2
    assert "neither --method nor --criterion" in found.stderr
