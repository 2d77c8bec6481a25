"""Two processes under torchrun compute what one computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from onnx_scsp.evaluate import Predictor  # noqa: E402
from retrain.small_nets import images, plain, saved  # noqa: E402

OPTIONS = (
    "--ratio 0.5 --method scsp --epochs 3 --batch 16 --rate 0.002 --distill --norm keep "
    "--held-out 0.25 --accelerator cpu"
).split()


def launch(folder: Path, output: str, processes: int, *more: str) -> None:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    files = [str(folder / "net.onnx"), "-o", str(folder / output), "--data", str(folder / "x.npy")]
    found = subprocess.run(
        [*start, "onnx_scsp.cli.app", "retrain", *files, *OPTIONS, *more],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr[-3000:]


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    x = images(96)
    np.save(tmp_path / "x.npy", x)
    saved(plain((12, 12)), tmp_path / "net.onnx")
    launch(tmp_path, "one.onnx", 1)
    launch(tmp_path, "two.onnx", 2)
    launch(tmp_path, "other.onnx", 1, "--seed", "5")
    one, two, other = (
        next(iter(Predictor(tmp_path / f"{name}.onnx")({"x": x}).values()))
        for name in ("one", "two", "other")
    )
    scale = np.abs(one).max()
    assert np.abs(one - two).max() < 1e-4 * scale
    assert np.abs(one - other).max() > 1e-3 * scale
