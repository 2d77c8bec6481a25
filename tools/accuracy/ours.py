"""onnx_scsp through its command line, as a user would; and its counter of MACs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_scsp
from onnx_scsp.couple import find_coupling
from tools.accuracy.catalog import Method, Task

_LONGEST = 400


class CommandError(Exception):
    """The command did not end well; holds the sentence it said."""


def macs(path: Path, task: Task) -> int:
    """Multiply-accumulates of one sample.

    Args:
        path: A file, dense or pruned.
        task: The network, for the size of its input.

    Returns:
        The count.
    """
    found = find_coupling(onnx_scsp.load(path), input_shapes={task.input: task.shape})
    return found.map.macs


def prune(task: Task, method: Method, budget: float, calib: Path, output: Path) -> dict[str, Any]:
    """Runs `onnx-scsp prune`.

    Args:
        task: The network.
        method: What to add to the command line.
        budget: Share of the MACs that may remain.
        calib: The file of calibration inputs.
        output: Where the pruned network goes.

    Returns:
        The command, as a reader would type it.

    Raises:
        CommandError: It ended with an error.
    """
    extra = [word.format(calib=calib) for word in method.arguments]
    shape = ",".join(str(size) for size in task.shape)
    words = ["prune", task.model, "-o", str(output), "--macs", f"{budget:g}"]
    words += ["--input-shape", f"{task.input}:{shape}", "--threads", "1", "--align", "4"]
    words += ["--no-gate", *extra]  # accuracy alone: no timing decides, or fails, a row
    done = subprocess.run(
        [sys.executable, "-m", "onnx_scsp.cli.app", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(_sentence(done.stderr or done.stdout, done.returncode))
    shown = [Path(word).name if "/" in word else word for word in words]
    return {"command": " ".join(["onnx-scsp", *shown])}


def _sentence(said: str, status: int) -> str:
    """What the command said, on one line, without the frame that a terminal draws."""
    plain = "".join(" " if "─" <= letter <= "╿" else letter for letter in said)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("Usage:", "Try ")))
    return f"exit status {status}: {text[-_LONGEST:]}"
