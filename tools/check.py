"""Every check of the project: lint, formatting, types, tests. What `make test` and CI run."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

ROUTINE = (
    ("lint", ["ruff", "check", "--quiet", "."]),
    ("format", ["ruff", "format", "--check", "--quiet", "."]),
    ("types", ["mypy"]),
)


def main() -> int:
    """Runs the checks in order and stops at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="run the long tests as well")
    parser.add_argument("--no-tests", action="store_true", help="only lint, formatting and types")
    options = parser.parse_args()
    steps = list(ROUTINE)
    if not options.no_tests:
        steps.append(("tests", ["pytest", "-q", *(["-m", ""] if options.all else [])]))
    for name, command in steps:
        start = time.perf_counter()
        status = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        verdict = "ok" if status == 0 else "FAILED"
        print(f"{name}: {verdict} ({time.perf_counter() - start:.0f} s)", flush=True)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
