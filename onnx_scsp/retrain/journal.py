"""Records of a run: CSV, JSON lines, and TensorBoard where it is installed.

A file holds the records of its checkpoint and no others: it is rewritten whole, so that a run that
was killed and resumed leaves the same files as one that was not.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onnx_scsp.graph.save import write_text

CSV_FILE, JSON_FILE, BOARD_FOLDER = "log.csv", "log.jsonl", "tensorboard"
Record = Mapping[str, Any]


def write_records(records: Sequence[Record], folder: Path) -> None:
    """Writes all records so far; nested values (survivors per group) stand in the JSON lines only.

    Raises:
        OutputError: The folder cannot be written.
    """
    if not records:
        return
    flat = [{k: v for k, v in r.items() if not isinstance(v, Mapping)} for r in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in flat for key in row)))
    writer.writeheader()
    writer.writerows(flat)
    write_text(text.getvalue(), folder / CSV_FILE)
    lines = (json.dumps(record, allow_nan=False) for record in records)
    write_text("\n".join(lines) + "\n", folder / JSON_FILE)


class Board:
    """TensorBoard's writer, or nothing where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        if find_spec("tensorboard") is not None:
            module = import_module("torch.utils.tensorboard")
            self._writer = module.SummaryWriter(str(folder / BOARD_FOLDER))

    def add(self, record: Record) -> None:
        """One epoch."""
        if self._writer is None:
            return
        for key, value in record.items():
            if isinstance(value, Mapping):
                for name, count in value.items():
                    if isinstance(count, int | float):
                        self._writer.add_scalar(f"{key}/{name}", count, record["epoch"])
            elif isinstance(value, int | float):
                self._writer.add_scalar(key, value, record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
