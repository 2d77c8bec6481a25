"""A plain install has no torch, and nothing but retraining asks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "models" / "digits_bn.onnx"
BLOCK = "import sys; sys.modules['torch'] = None\n"
REPORT = "\nprint(json.dumps('torch' in sys.modules))"


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import json, sys\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def app(*arguments: object) -> str:
    words = [str(argument) for argument in arguments]
    return (
        "from onnx_scsp.cli.app import app\n"
        f"try: app({words!r}, standalone_mode=False)\n"
        "except SystemExit as done: assert not done.code, done.code\n"
    )


@pytest.mark.parametrize(
    "verb", ["import onnx_scsp", "import onnx_scsp.retrain", "import onnx_scsp.cli.app"]
)
def test_importing_the_package_does_not_import_torch(verb: str) -> None:
    assert json.loads(run(f"{verb}{REPORT}").stdout) is False


def test_pruning_does_not_import_torch(tmp_path: Path) -> None:
    options = ["--ratio", 0.5, "--no-synthetic"]
    found = run(app("prune", MODEL, "-o", tmp_path / "o.onnx", *options) + REPORT)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1]) is False


def test_the_lift_does_import_torch() -> None:
    pytest.importorskip("torch")
    assert json.loads(run(f"import onnx_scsp.retrain.lift{REPORT}").stdout) is True


def test_export_torch_without_torch_says_what_to_install(tmp_path: Path) -> None:
    out = tmp_path / "o.pt2"
    words = ["export-torch", str(MODEL), "-o", str(out)]
    found = run(f"{BLOCK}from onnx_scsp.cli.app import app\napp({words!r})")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "pip install 'onnx-scsp[retrain]'" in found.stderr
    assert not out.exists()
