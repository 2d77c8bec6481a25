"""`prune` to a tolerance: the tables, the JSON, and one sentence for what cannot be asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import Result

Run = Callable[..., Result]
RunJson = Callable[..., dict[str, Any]]
PRUNE = ("prune", "m.onnx", "-o", "o.onnx")
BARE = (*PRUNE, "--no-synthetic")
SIZE = ("--metric", "tolerance_hooks:size")
HOOKS = """
import numpy as np
import onnx_scsp
from onnx_scsp.couple import find_coupling

labels = np.load('labels.npy')
images = np.load('data.npy')

def size(model):
    return find_coupling(onnx_scsp.load(model.path)).macs / 2666112

def top1(model):
    return {'top1': (model({'image': images})['logits'].argmax(axis=1) == labels).mean(), 'n': 40}

def fails(model):
    raise ValueError('planted')
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Iterator[Path]:
    found = load_digits()
    np.save(tmp_path / "data.npy", (found.images[:40, None] / 16).astype(np.float32))
    np.save(tmp_path / "labels.npy", found.target[:40])
    (tmp_path / "tolerance_hooks.py").write_text(HOOKS)
    (tmp_path / "m.onnx").write_bytes(model.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("tolerance_hooks", None)


def test_json_lists_the_trials(run_json: RunJson, folder: Path) -> None:
    found = run_json(*BARE, "--max-drop", 0.4, *SIZE)
    assert found["tolerance"] == {
        "max_drop": 0.4,
        "metric": "tolerance_hooks:size",
        "key": None,
        "max_divergence": None,
        "original": 1.0,
    }
    assert 3 < len(found["trials"]) <= 8
    within = [trial for trial in found["trials"] if trial["within"]]
    assert found["achieved"] == pytest.approx(min(trial["achieved"] for trial in within))
    assert 0.6 <= found["achieved"] <= 0.63
    assert found["target"] == {"macs": min(trial["fraction"] for trial in within)}
    assert all(check["passed"] for check in found["checks"])
    assert "search" in found["seconds"]
    assert found["after"]["bytes"] == (folder / "o.onnx").stat().st_size


def test_the_tables_show_the_trials_and_end_with_the_verdict(run: Run, folder: Path) -> None:
    metric = ("--metric", "tolerance_hooks:top1#top1")
    result = run(*BARE, "--max-drop", 0.05, *metric)
    assert result.exit_code == 0, result.output
    for words in ("Trials", "within 0.05", "original", "metric", "drop", "masked twin", "yes"):
        assert words in result.stdout
    assert "all checks passed" in " ".join(result.stdout.split()[-12:])


def test_a_divergence_on_calibration_inputs(run_json: RunJson, folder: Path) -> None:
    options = ("--max-divergence", 0.5, "--calib", "data.npy", "--plan-out", "p.json")
    found = run_json(*PRUNE, *options, "--target", "params", "--min-share", 0.6)
    assert found["tolerance"]["max_divergence"] == 0.5
    assert found["tolerance"]["original"] == 0.0
    assert all(trial["figure"] == trial["loss"] >= 0 for trial in found["trials"])
    assert list(found["target"]) == ["params"]
    plan = json.loads((folder / "p.json").read_text())
    assert plan["config"]["method"] == "output-aware"


def test_a_search_goes_on_from_its_state(run: Run, run_json: RunJson, folder: Path) -> None:
    options = (*BARE, "--max-drop", 0.4, *SIZE, "--state", "s.json")
    first = run_json(*options)
    state, model = (folder / "s.json").read_bytes(), (folder / "o.onnx").read_bytes()
    (folder / "o.onnx").unlink()
    second = run_json(*options)
    assert second["trials"] == first["trials"]
    assert (folder / "o.onnx").read_bytes() == model
    assert (folder / "s.json").read_bytes() == state
    other = run(*BARE, "--max-drop", 0.3, *SIZE, "--state", "s.json")
    assert other.exit_code == 2
    assert "its max_drop is 0.4, now it is 0.3" in other.stderr


DROP = ("--max-drop", "0.1")
CASES = {
    "a budget as well": ((*DROP, *SIZE, "--macs", "0.5"), "leave out --macs"),
    "another budget as well": ((*DROP, *SIZE, "--ratio", "0.5"), "leave out --ratio"),
    "two tolerances": ((*DROP, *SIZE, "--max-divergence", "1"), "exactly one tolerance"),
    "a drop of nothing": (DROP, "--metric module:function go together"),
    "a metric without a drop": ((*SIZE, "--macs", "0.5"), "--metric goes with --max-drop"),
    "a state without a search": (("--state", "s", "--macs", "0.5"), "--state goes with"),
    "a target without a search": (("--target", "macs"), "--target goes with"),
    "an unknown target": ((*DROP, *SIZE, "--target", "bytes"), "target 'bytes' is unknown"),
    "no proof": ((*DROP, *SIZE, "--no-verify"), "leave out --no-verify"),
    "a divergence without inputs": (("--max-divergence", "1"), "give --calib DATA"),
    "a negative drop": (("--max-drop", "-1", *SIZE), "--max-drop -1 is outside"),
    "a metric that is misspelled": ((*DROP, "--metric", "a.py"), "is not module:function"),
    "a metric that is absent": ((*DROP, "--metric", "no_such:m"), "no module 'no_such'"),
    "a metric that fails": ((*DROP, "--metric", "tolerance_hooks:fails"), "planted"),
    "several figures": (
        (*DROP, "--metric", "tolerance_hooks:top1"), "choose one as tolerance_hooks:top1#top1",
    ),
    "no such figure": ((*DROP, "--metric", "tolerance_hooks:top1#x"), "returns no 'x'"),
    "a tolerance beyond reach": (("--max-drop", "0.001", *SIZE), "no cut stays within --max-drop"),
    "a state in the output's place": ((*DROP, *SIZE, "--state", "o.onnx"), "another output"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), CASES.values(), ids=CASES)
def test_what_cannot_be_asked(options: tuple[str, ...], words: str, run: Run, folder: Path) -> None:
    before = {path.name for path in folder.iterdir()} | {"__pycache__"}
    result = run(*BARE, *options)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert {path.name for path in folder.iterdir()} <= before


def test_without_budget_and_tolerance_both_are_named(run: Run, folder: Path) -> None:
    result = run(*PRUNE)
    assert result.exit_code == 2
    assert "exactly one budget" in result.stderr
    assert "--max-divergence" in result.stderr
