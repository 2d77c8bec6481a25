"""onnx_scsp through its command line, as a user would; and its counter of MACs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.types import Role
from tools.accuracy.catalog import DISTIL, GRADIENTS, INNER, UNIFORM, Method, Task
from tools.accuracy.search import bisect

_LONGEST = 400
_MARKS = (UNIFORM, INNER, DISTIL, GRADIENTS)


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
    """Runs `onnx-scsp prune`, or `retrain` where the method says so.

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
    options = [word for word in method.arguments if word not in _MARKS]
    extra = [word.format(calib=calib) for word in options]
    extra += spine(Path(task.model), task) if INNER in method.arguments else []
    shape = ",".join(str(size) for size in task.shape)
    words = [task.model, "-o", str(output), "--input-shape", f"{task.input}:{shape}"]
    words += ["--threads", "1", "--align", "1"]  # as the rivals: no width is better
    if DISTIL in method.arguments:
        return {"command": _command(["retrain", *words, *_distilled(budget, calib)])}
    if GRADIENTS in method.arguments:
        scores = str(output.with_name("scores.npz"))
        _command(["importance", task.model, "-o", scores, "--data", str(calib)])
        extra += ["--method", "importance", "--importance", scores]
    words = ["prune", *words, "--no-gate", *extra]  # no timing decides, or fails, a row
    if UNIFORM not in method.arguments:
        return {"command": _command([*words, "--macs", f"{budget:g}"])}
    dense = macs(Path(task.model), task)

    def left(removed: float) -> float:
        quick = [word for word in words if word not in ("--calib", str(calib))]
        quick += ["--no-synthetic", "--compensate", "none", "--no-verify"]
        _command([*quick, "--ratio", f"{1.0 - removed:.4f}"])
        return macs(output, task) / dense

    removed = bisect(left, budget, low=0.02, high=0.9)
    return {"command": _command([*words, "--ratio", f"{1.0 - removed:.4f}"])}


def _distilled(budget: float, calib: Path) -> list[str]:
    """The same cut, then gradients from the original's outputs: more words for `retrain`."""
    words = ["--macs", f"{budget:g}", "--data", str(calib), "--distill", "--method", "finetune"]
    words += ["--epochs", "20", "--optimiser", "adamw", "--rate", "1e-3", "--held-out", "0.1"]
    return [*words, "--accelerator", "cpu"]


def spine(path: Path, task: Task) -> list[str]:
    """Options that keep every group that several layers write to: the residual spines."""
    groups = find_coupling(onnx_scsp.load(path), input_shapes={task.input: task.shape}).map.groups
    makers = [[m.tensor for m in group.members if m.role is Role.MAKES] for group in groups]
    return [word for names in makers if len(names) > 1 for word in ("--ignore", names[0])]


def _command(words: list[str]) -> str:
    """Runs the command line; returns it as a reader would type it."""
    done = subprocess.run(
        [sys.executable, "-m", "onnx_scsp.cli.app", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(_sentence(done.stderr or done.stdout, done.returncode))
    shown = [Path(word).name if "/" in word else word for word in words]
    return " ".join(["onnx-scsp", *shown])


def _sentence(said: str, status: int) -> str:
    """What the command said, on one line, without the frame that a terminal draws."""
    plain = "".join(" " if "─" <= letter <= "╿" else letter for letter in said)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("Usage:", "Try ")))
    return f"exit status {status}: {text[-_LONGEST:]}"
