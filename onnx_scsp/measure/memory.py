"""Peak resident memory of loading and running a model: a process of its own for each.

peak = high-water mark at the end - high-water mark before the model is opened

Both marks are of the same process, which has the runtime and the inputs already. The mark is that
of the process's own memory (VmHWM on Linux): `ru_maxrss` there also counts its parent's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_scsp
from onnx_scsp.errors import ModelError
from onnx_scsp.measure.records import Memory
from onnx_scsp.measure.subject import Subject

_THREAD_POOLS = ("OMP", "OPENBLAS", "MKL")


def peak_memory(subject: Subject, *, threads: int, provider: str) -> Memory:
    """Loads and runs each model in a process of its own.

    Args:
        subject: Models and inputs.
        threads: Intra-op threads.
        provider: Execution provider; memory of a device is not counted.

    Returns:
        Peaks above the process that has not opened a model yet.

    Raises:
        ModelError: A model cannot be run there.
    """
    marks = []
    with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as name:
        folder = Path(name)
        for source in subject.sources:
            path = folder / "model.onnx"
            if isinstance(source, bytes):
                path.write_bytes(source)
            else:
                path = source.resolve()
            task: dict[str, Any] = {"model": str(path), "threads": threads, "provider": provider}
            task |= {"inputs": [asdict(spec) for spec in subject.inputs], "seed": subject.seed}
            marks.append(_child(task, folder))
    (base_a, peak_a), (base_b, peak_b) = marks
    return Memory(peak_a - base_a, peak_b - base_b, max(base_a, base_b))


def _child(task: dict[str, Any], folder: Path) -> tuple[int, int]:
    """Marks before and after, in bytes."""
    home = Path(onnx_scsp.__file__).resolve().parent.parent
    paths = [str(home), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    pools = {f"{pool}_NUM_THREADS": str(task["threads"]) for pool in _THREAD_POOLS}
    done = subprocess.run(
        [sys.executable, "-m", "onnx_scsp.measure.footprint"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,  # an empty folder: nothing there can stand in for a module
        env={**os.environ, **pools, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:] or f"it ended with status {done.returncode}"
        raise ModelError(f"peak memory of {task['model']} cannot be measured: {said}")
    marks = json.loads(done.stdout)
    return int(marks["baseline_bytes"]), int(marks["peak_bytes"])
