"""Where measured tables are kept: one file per processor, runtime version, threads, provider."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from onnx_scsp.config import AUTO
from onnx_scsp.errors import ConfigError, OutputError
from onnx_scsp.graph.save import write_text
from onnx_scsp.graph.session import CPU
from onnx_scsp.measure.machine import machine_record
from onnx_scsp.timing import MachineTable, shipped_table, table_from_json, table_to_json

FOLDER_VARIABLE = "ONNX_SCSP_CACHE"
"""Environment variable that names another folder."""


def cache_folder() -> Path:
    """The user's cache folder for this package; it need not be there."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "onnx_scsp"


def table_path(threads: int, provider: str = CPU) -> Path:
    """Where the table of this machine lies, or would lie."""
    record = machine_record()
    key = "\n".join((record["processor"], record["onnxruntime"], str(threads), provider))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache_folder() / "tables" / f"{provider}-{threads}-{digest}.json"


def find_table(*, threads: int, provider: str = CPU) -> MachineTable:
    """The stored table of this machine, else the shipped one.

    Args:
        threads: Intra-op threads.
        provider: Execution provider.

    Returns:
        The table; its `origin` says which.

    Raises:
        ConfigError: The stored table is damaged.
    """
    path = table_path(threads, provider)
    if not path.is_file():
        return shipped_table()
    return read_table(path)


def machine_for(
    align: int | str, machine: MachineTable | None, threads: int
) -> MachineTable | None:
    """The table that alignment goes by: the given one, else this machine's; None for a multiple."""
    if align != AUTO:
        return None
    return find_table(threads=threads) if machine is None else machine


def read_table(path: Path, origin: str = "measured") -> MachineTable:
    """Reads a table file.

    Raises:
        ConfigError: It cannot be read or is no table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}") from error
    return table_from_json(text, str(path), origin)


def store_table(table: MachineTable) -> Path:
    """Keeps a table for later runs on this machine.

    Returns:
        Where it lies.

    Raises:
        OutputError: The folder cannot be written.
    """
    path = table_path(table.threads, table.provider)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made: {error.strerror}") from error
    write_text(table_to_json(table), path)
    return path
