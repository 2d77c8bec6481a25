"""One measurement in a process of its own: `python -m tools.accuracy.job TASK.json RESULT.json`."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from tools.accuracy.catalog import DENSE, Method, Sources, Task
from tools.accuracy.evaluate import calibration, evaluate
from tools.accuracy.ours import CommandError, macs
from tools.accuracy.search import OutOfReachError

_TOOLS = {
    "ours": "tools.accuracy.ours",
    "tp": "tools.accuracy.rivals_torch",
    "onnxsim": "tools.accuracy.rivals_onnxsim",
    "kmeans": "tools.accuracy.rivals_kmeans",
}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Prunes one network by one method to one budget, unless the file is there, and measures it.

    Args:
        job: `task`, `method`, `sources` (fields of those records), `budget`, `split`, `made` (the
            pruned file's place) and `scratch`.

    Returns:
        The record, without what the driver adds.
    """
    task = Task(**job["task"] | {"shape": tuple(job["task"]["shape"])})
    method = Method(**job["method"] | {"arguments": tuple(job["method"]["arguments"])})
    sources = Sources(**job["sources"])
    start = time.perf_counter()
    record: dict[str, Any] = {"outcome": "ok"}
    try:
        path = Path(task.model)
        if method.tool != DENSE:
            path = Path(job["made"])
            record |= _make(task, method, sources, job, path)
        dense = macs(Path(task.model), task)
        record |= {"macs": dense, "macs_left": macs(path, task) / dense}
        record["metrics"] = evaluate(task, sources, path, job["split"])
    except (CommandError, OutOfReachError) as error:
        record |= {"outcome": "error", "error": str(error)}
    except Exception as error:
        traceback.print_exc()  # into the job's log
        said = str(error).strip().split("\n")
        line = said[-1 if said[0].startswith("Traceback") else 0]  # some clients say all of it
        record |= {"outcome": "error", "error": f"{type(error).__name__}: {line}"[:400]}
    record["seconds"] = round(time.perf_counter() - start, 2)
    return record


def _make(
    task: Task, method: Method, sources: Sources, job: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Prunes, or finds what was pruned before; with time and memory that it took."""
    notes = path.with_suffix(".json")
    if path.exists() and notes.exists():
        kept: dict[str, Any] = json.loads(notes.read_text())
        return kept
    calib = calibration(task, sources)
    start = time.perf_counter()
    output = Path(job["scratch"]) / "pruned.onnx"
    tool = importlib.import_module(_TOOLS[method.tool])
    found = tool.prune(task, method, job["budget"], calib, output)
    whose = resource.RUSAGE_CHILDREN if method.tool == "ours" else resource.RUSAGE_SELF
    found |= {
        "prune_seconds": round(time.perf_counter() - start, 2),
        "peak_mb": resource.getrusage(whose).ru_maxrss // 1024,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    output.replace(path)
    notes.write_text(json.dumps(found))
    return dict(found)


def main() -> None:
    """Reads the job, writes the record."""
    warnings.simplefilter("ignore")
    job = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(run(job)))


if __name__ == "__main__":
    main()
