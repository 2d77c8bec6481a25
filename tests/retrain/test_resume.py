"""A run that is killed and resumed gives the bytes of one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from retrain.small_nets import DIGITS, digits  # noqa: E402

OPTIONS = (
    "--macs 0.4 --epochs 3 --batch 16 --rate 0.01 --augment flip,crop1 --ema 0.9 "
    "--checkpoint-steps 2 --held-out 0.2 --json"
).split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x, y = digits(96)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    return tmp_path


def command(folder: Path, name: str, *more: str) -> list[str]:
    files = ["--data", str(folder / "x.npy"), "--labels", str(folder / "y.npy")]
    start = [sys.executable, "-m", "onnx_scsp.cli.app", "retrain", str(DIGITS)]
    return [*start, "-o", str(folder / name), *files, *OPTIONS, *more]


def run(arguments: list[str]) -> None:
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr


def killed(arguments: list[str], checkpoint: Path, after_s: float) -> bool:
    """Kills a run some time after its first checkpoint; False where it finished before that."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    since = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > since:
            break
        time.sleep(0.01)
    time.sleep(after_s)
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return True


def survives(folder: Path, kills: int, method: str, seed: int) -> None:
    run(command(folder, "whole.onnx", "--method", method))
    rng = random.Random(seed)
    checkpoint = folder / "parts.onnx.run" / "checkpoint.safetensors"
    count = 0
    for _ in range(kills):
        resume = ("--resume",) if checkpoint.exists() else ()
        count += killed(command(folder, "parts.onnx", "--method", method, *resume), checkpoint,
                        rng.uniform(0.0, 0.4))  # fmt: skip
        if not checkpoint.exists():
            break
    assert count, "no run was killed"
    if not (folder / "parts.onnx").exists():
        run(command(folder, "parts.onnx", "--method", method, "--resume"))
    assert (folder / "parts.onnx").read_bytes() == (folder / "whole.onnx").read_bytes()
    for name in ("log.csv", "log.jsonl"):
        whole, parts = (folder / f"{run}.onnx.run" / name for run in ("whole", "parts"))
        assert parts.read_bytes() == whole.read_bytes()


def test_a_run_that_is_killed_twice_gives_the_same_bytes(folder: Path) -> None:
    survives(folder, 2, "scsp", seed=int(np.random.default_rng().integers(1 << 30)))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["scsp-decay", "one-per-cluster"])
def test_a_run_that_is_killed_ten_times_gives_the_same_bytes(folder: Path, method: str) -> None:
    survives(folder, 10, method, seed=7)
