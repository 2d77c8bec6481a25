"""One task in a process of its own: `python -m tools.speed.job TASK.json RESULT.json`."""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from tools.coverage.catalog import Network
from tools.speed.catalog import Variant


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Carries out one task.

    Args:
        task: `stage` and what that needs.

    Returns:
        The record, without what the driver adds.
    """
    start = time.perf_counter()
    try:
        record = _STAGES[task["stage"]](task)
    except Exception as error:
        traceback.print_exc()  # into the task's log
        first = (str(error).strip() or "no message").split("\n")[0]
        record = {"outcome": "error", "error": f"{type(error).__name__}: {first}"[:400]}
    record["seconds"] = round(time.perf_counter() - start, 2)
    return record


def _export(task: dict[str, Any]) -> dict[str, Any]:
    importlib.import_module("torch").set_num_threads(1)
    partial = Path(task["scratch"]) / "dense.onnx"
    importlib.import_module("tools.coverage.zoo").export(_network(task), "ts", partial)
    partial.replace(task["file"])
    return {"outcome": "ok"}


def _prune(task: dict[str, Any]) -> dict[str, Any]:
    variant = Variant(**task["variant"] | {"arguments": tuple(task["variant"]["arguments"])})
    partial = Path(task["scratch"]) / "pruned.onnx"
    prune = importlib.import_module("tools.speed.prune").prune
    found: dict[str, Any] = prune(
        _network(task), variant, Path(task["dense"]), task["budget"], partial
    )
    partial.replace(task["file"])
    return found


def _time(task: dict[str, Any]) -> dict[str, Any]:
    timing = importlib.import_module("tools.speed.timing")
    found: dict[str, Any] = timing.time_files(
        task["files"], threads=task["threads"], rounds=task["rounds"]
    )
    return found


def _network(task: dict[str, Any]) -> Network:
    return Network(**task["network"] | {"inputs": tuple(map(tuple, task["network"]["inputs"]))})


_STAGES = {"export": _export, "prune": _prune, "time": _time}


def main() -> None:
    """Reads the task, writes the record."""
    warnings.simplefilter("ignore")
    task = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(run(task)))


if __name__ == "__main__":
    main()
