"""A task in a process of its own: `python -m MODULE task.json result.json`, with a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.records import Record

POOLS = ("OMP", "OPENBLAS", "MKL")


@dataclass(frozen=True)
class Child:
    """How to run tasks.

    Attributes:
        module: What to run; it reads the task from one file and writes its record to another.
        path: Folders that its imports are looked up in, before those of the environment.
        logs: Folder for what it prints.
        limit: Seconds that it may take.
        threads: Of the pools of linear algebra.
    """

    module: str
    path: Sequence[Path]
    logs: Path
    limit: float
    threads: int = 1

    def run(self, task: Mapping[str, Any], scratch: Path, name: str) -> Record:
        """Runs one task; it is killed with all its children when its time is over.

        Args:
            task: What is ready for JSON.
            scratch: An empty folder for the two files.
            name: Of the log.

        Returns:
            What the task wrote; or `outcome` (`hung` or `crashed`), `error` and `seconds`.
        """
        given, result = scratch / "task.json", scratch / "result.json"
        given.write_text(json.dumps(task))
        self.logs.mkdir(exist_ok=True)
        pools = {f"{pool}_NUM_THREADS": str(self.threads) for pool in POOLS}
        paths = os.pathsep.join(str(folder) for folder in self.path)
        start = time.perf_counter()
        with (self.logs / f"{name.replace('/', '_')}.log").open("w") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", self.module, str(given), str(result)],
                cwd=scratch,
                env={**os.environ, **pools, "PYTHONPATH": paths},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = wait_or_kill(child, self.limit)
        spent = round(time.perf_counter() - start, 2)
        if status is None:
            sentence = f"no result after {self.limit:.0f} s"
            return {"outcome": "hung", "error": sentence, "seconds": self.limit}
        if not result.exists():
            return {"outcome": "crashed", "error": f"process ended with {status}", "seconds": spent}
        record: Record = json.loads(result.read_text())
        return record


def wait_or_kill(child: subprocess.Popen[Any], limit: float) -> int | None:
    """Waits for a process that leads a session of its own.

    Args:
        child: The process.
        limit: Seconds.

    Returns:
        Its exit status; None where its time was over and it was killed with all its children.
    """
    try:
        return child.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        _kill(child)
        return None
    except BaseException:  # an interrupted driver leaves nothing running
        _kill(child)
        raise


def _kill(child: subprocess.Popen[Any]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
