"""`importance` on the command line: the file it writes, what the planner makes of it, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from onnx_scsp.plan import read_importance

START = ("importance", "model.onnx", "--data", "x.npy", "-o")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    np.save(tmp_path / "x.npy", rng.random((16, 1, 8, 8)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 10, 16))
    np.save(tmp_path / "short.npy", np.zeros(3, np.int64))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("labels", [(), ("--labels", "y.npy")])
def test_scores_are_written_and_pruning_goes_by_them(
    folder: Path, run: Callable[..., Result], labels: tuple[str, ...]
) -> None:
    pytest.importorskip("lightning_fabric")
    done = run(*START, "s.npz", *labels, "--json")
    assert done.exit_code == 0, done.output
    scores = read_importance(folder / "s.npz")
    assert json.loads(done.stdout)["weights"] == {name: len(s) for name, s in scores.items()}
    words = ["prune", "model.onnx", "-o", "o.onnx", "--ratio", "0.5", "--no-synthetic", "--no-gate"]
    cut = run(*words, "--method", "importance", "--importance", "s.npz")
    assert cut.exit_code == 0, cut.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*START, "s.json"), "written as .npz"),
        ((*START, "s.npz", "--labels", "short.npy"), "3 labels"),
        ((*START, "s.npz", "--output-name", "x9", "--labels", "y.npy"), "'x9' is no output"),
        ((*START, "s.npz", "--input-shape", "nope:1,2"), "nope"),
        (("importance", "model.onnx", "--data", "no.npy", "-o", "s.npz"), "no such file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    folder: Path, run: Callable[..., Result], words: tuple[str, ...], told: str
) -> None:
    pytest.importorskip("lightning_fabric")
    before = sorted(path.name for path in folder.iterdir())
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_without_torch_it_says_what_to_install(folder: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom onnx_scsp.cli.app import app\n"
    code += f"app({[*START, 's.npz']!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 2
    assert "pip install 'onnx-scsp[retrain]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "s.npz").exists()
