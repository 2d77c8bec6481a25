"""`retrain` on the command line: refusals, the hint where PyTorch is missing, a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnx_scsp.retrain.require import PACKAGES

BLOCKED = """
import sys
sys.modules[{name!r}] = None
from onnx_scsp.cli.app import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch, model: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    np.save(tmp_path / "x.npy", rng.random((64, 1, 8, 8)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 10, 64))
    np.save(tmp_path / "short.npy", np.zeros(10, np.int64))
    np.save(tmp_path / "large.npy", np.full(64, 11))
    np.save(tmp_path / "wrong.npy", np.zeros((8, 3, 8, 8), np.float32))
    (tmp_path / "existing.onnx").write_bytes(b"precious")
    (tmp_path / "plan.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


START = ("retrain", "model.onnx", "-o", "existing.onnx")
DATA = ("--data", "x.npy")
LABELS = (*DATA, "--labels", "y.npy")
EARLY = {
    "no budget": ((*START, *LABELS), "exactly one of --macs"),
    "two budgets": ((*START, *LABELS, "--macs", "0.5", "--plan", "plan.json"), "exactly one of"),
    "a budget out of range": ((*START, *LABELS, "--macs", "2"), "outside (0, 1)"),
    "nothing to learn": ((*START, *DATA, "--macs", "0.5"), "nothing to learn from"),
    "a loss without labels": (
        (*START, *DATA, "--macs", "0.5", "--distill", "--loss", "m:f"), "give --labels"),
    "features without a teacher": (
        (*START, *LABELS, "--macs", "0.5", "--feature-weight", "1"), "give --distill"),
    "no epochs": ((*START, *LABELS, "--macs", "0.5", "--epochs", "0"), "--epochs 0"),
    "an unknown optimiser": (
        (*START, *LABELS, "--macs", "0.5", "--optimiser", "lion"), "use one of sgd"),
    "an unknown augmentation": (
        (*START, *LABELS, "--macs", "0.5", "--augment", "mixup"), "use flip and crop4"),
}  # fmt: skip
LATE = {
    "an unknown method": ((*START, *LABELS, "--macs", "0.5", "--method", "x"), "use one of scsp"),
    "no such model": (("retrain", "no.onnx", "-o", "o.onnx", *LABELS, "--macs", "0.5"), "no such"),
    "no such data": (
        (*START, "--data", "no.npy", "--labels", "y.npy", "--macs", "0.5"), "no such file"),
    "data that do not fit": (
        (*START, "--data", "wrong.npy", "--labels", "y.npy", "--macs", "0.5"), "the model wants"),
    "too few labels": (
        (*START, *DATA, "--labels", "short.npy", "--macs", "0.5"), "10 labels"),
    "labels out of range": (
        (*START, *DATA, "--labels", "large.npy", "--macs", "0.5"), "label 11"),
    "a budget out of reach": (
        (*START, *LABELS, "--macs", "0.001", "--epochs", "1"), "cannot be reached"),
    "a broken plan": ((*START, *LABELS, "--plan", "plan.json"), "plan.json"),
    "the model itself as output": (
        ("retrain", "model.onnx", "-o", "model.onnx", *LABELS, "--macs", "0.5"), "input model"),
}  # fmt: skip


def refused(result, folder: Path, words: str) -> None:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert words in lines[0]
    assert lines[0].startswith("error: ")
    assert (folder / "existing.onnx").read_bytes() == b"precious"


@pytest.mark.parametrize("case", EARLY)
def test_options_that_make_no_sense_are_refused_before_anything_is_loaded(
    run, folder: Path, case: str
) -> None:
    arguments, words = EARLY[case]
    refused(run(*arguments), folder, words)
    assert not (folder / "existing.onnx.run").exists()


@pytest.mark.parametrize("case", LATE)
def test_input_that_does_not_fit_is_refused(run, folder: Path, case: str) -> None:
    pytest.importorskip("lightning_fabric")
    arguments, words = LATE[case]
    refused(run(*arguments), folder, words)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_a_hint_of_one_sentence(folder: Path, name: str) -> None:
    script = BLOCKED.format(name=name)
    command = [sys.executable, "-c", script, *START, *LABELS, "--macs", "0.5"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert PACKAGES[name] in found.stderr
    assert "pip install 'onnx-scsp[retrain]'" in found.stderr
    assert (folder / "existing.onnx").read_bytes() == b"precious"


def test_other_verbs_work_without_torch(folder: Path) -> None:
    script = BLOCKED.format(name="torch")
    command = [sys.executable, "-c", script, "inspect", "model.onnx", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr


def test_a_run_reports_epochs_checks_and_figures(run_json, folder: Path) -> None:
    pytest.importorskip("lightning_fabric")
    pytest.importorskip("torch")
    options = "--distill --macs 0.5 --epochs 2 --batch 16 --plan-out p.json".split()
    found = run_json("retrain", "model.onnx", "-o", "out.onnx", *LABELS, *options)
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert found["achieved"] <= 0.5
    assert found["after"]["macs"] < found["before"]["macs"]
    assert all(check["passed"] for check in found["checks"])
    assert json.loads((folder / "p.json").read_text())["schema"] == 1
