"""The child process of `memory`: opens and runs one model, and says how much memory that took.

python -m onnx_scsp.measure.footprint < task.json     in the folder that holds feeds.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from onnx_scsp.errors import ScspError
from onnx_scsp.graph.session import open_session, random_feeds, run_session
from onnx_scsp.graph.shapes import InputSpec

_RUNS = 2
_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """High-water mark of this process's resident memory.

    Raises:
        ScspError: The system does not say.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        raise ScspError("this system does not tell a process's peak memory") from None
    mark: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return mark if sys.platform == "darwin" else mark * 1024  # macOS counts bytes


def main() -> int:
    """Reads the task, prints the marks."""
    task = json.loads(sys.stdin.read())
    feeds = random_feeds([InputSpec(**spec) for spec in task["inputs"]], task["seed"])
    try:
        before = peak_rss_bytes()
        session = open_session(
            Path(task["model"]), threads=task["threads"], provider=task["provider"]
        )
        for _ in range(_RUNS):
            run_session(session, feeds)
        marks = {"baseline_bytes": before, "peak_bytes": peak_rss_bytes()}
    except ScspError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(marks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
