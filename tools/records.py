"""Records of measurements: one JSON object per line, only ever added to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_lines(path: Path) -> list[Record]:
    """All records, the oldest first; a line that a kill cut short is skipped."""
    lines = path.read_text().splitlines() if path.exists() else ()
    return [record for line in lines if (record := _parsed(line)) is not None]


def _parsed(line: str) -> Record | None:
    try:
        found: Record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found


def append(path: Path, record: Record) -> None:
    """Adds a record; after a line that was cut short it starts a new one."""
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as lines:
        lines.write("\n" * torn + json.dumps(record) + "\n")
