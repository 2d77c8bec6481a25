"""Runs a command and notes what it took (`python -I -S launch.py NOTE.json COMMAND ...`).

A process of its own between the bench and what it measures: Linux counts the memory of whoever
starts a process as that process's, so the starter has to be small.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Starts, waits, writes the note."""
    note, *words = sys.argv[1:]
    start = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, os.environ)
    _, status, usage = os.wait4(pid, 0)
    found = {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_mb": usage.ru_maxrss // 1024,
        "status": os.waitstatus_to_exitcode(status),
    }
    with open(note, "w") as stream:  # noqa: PTH123 - pathlib would double what this takes
        json.dump(found, stream)


if __name__ == "__main__":
    main()
