"""One measurement in a process of its own: `python -m tools.coverage.job TASK.json RESULT.json`."""

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

from tools.coverage.catalog import Network


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Carries out one task.

    Args:
        task: `tool`, `network` (fields of a Network), `variant`, `file`, `scratch` and `ratio`.

    Returns:
        The record, without what the driver adds.
    """
    net = Network(**task["network"] | {"inputs": tuple(map(tuple, task["network"]["inputs"]))})
    path, scratch = Path(task["file"]), Path(task["scratch"])
    start = time.perf_counter()
    try:
        record = _measure(task, net, path, scratch)
    except Exception as error:
        traceback.print_exc()  # into the task's log
        first = str(error).strip().split("\n")[0]
        record = {"outcome": "crashed", "error": f"{type(error).__name__}: {first}"[:400]}
    record["seconds"] = round(time.perf_counter() - start, 2)
    record["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return record


def _measure(task: dict[str, Any], net: Network, path: Path, scratch: Path) -> dict[str, Any]:
    tool, variant = task["tool"], task["variant"]
    if tool == "export":
        zoo = importlib.import_module("tools.coverage.zoo")
        _single_thread()
        partial = scratch / "partial.onnx"
        zoo.export(net, variant, partial)
        partial.replace(path)
        return {"outcome": "ok", "bytes": path.stat().st_size}
    if tool in ("ours", "approximate", "equal"):
        ours = importlib.import_module("tools.coverage.ours")
        found: dict[str, Any] = ours.prune(
            path,
            scratch / "ours.onnx",
            approximate=tool == "approximate",
            ratio=task["ratio"],
            shapes={name: tuple(shape) for name, shape in net.shapes},
        )
        return found
    if tool == "probe":
        looked: dict[str, Any] = importlib.import_module("tools.coverage.probe").probe(path)
        return looked
    rivals = importlib.import_module("tools.coverage.rivals")
    if tool == "tp":
        _single_thread()
    result: dict[str, Any] = rivals.RIVALS[tool](net, path, scratch)
    return result


def _single_thread() -> None:
    importlib.import_module("torch").set_num_threads(1)


def main() -> None:
    """Reads the task, writes the record."""
    warnings.simplefilter("ignore")
    task = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(run(task)))


if __name__ == "__main__":
    main()
