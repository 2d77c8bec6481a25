"""The table that serves where nothing was measured.

`onnx-scsp profile -o shipped.json` made it, on an x86-64 machine with AVX-512, one thread. Machines
with AVX2 or with NEON have shorter vectors: what is fast in the table is fast there, too, and some
widths in between may be.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from onnx_scsp.timing.table import MachineTable, table_from_json


@cache
def shipped_table() -> MachineTable:
    """The table that comes with the package."""
    text = files("onnx_scsp.timing").joinpath("shipped.json").read_text(encoding="utf-8")
    return table_from_json(text, "the shipped table", origin="shipped")
