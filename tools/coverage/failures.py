"""The page's last sections: what failed, and with which words."""

from __future__ import annotations

import re

from tools.coverage.driver import Key
from tools.records import Record

_TOOLS = {
    "ours": "onnx_scsp",
    "tp": "Torch-Pruning",
    "onnxsim": "onnxsim",
    "export": "Exports, so nobody was measured",
}

_FOLDERS = re.compile(r"(?:/[^\s/]+)*/(?=[^\s/]+\.onnx\b)")
"""The way to a model's file, which is different on every machine."""


def failures(records: dict[Key, Record]) -> list[str]:
    """Every record that is not ok, by tool.

    Args:
        records: Newest record of every measurement.

    Returns:
        Lines of Markdown.
    """
    lines = ["## What failed", ""]
    for tool, title in _TOOLS.items():
        found = [r for key, r in records.items() if key[2] == tool and r["outcome"] != "ok"]
        known = sum(key[2] == tool for key in records)
        lines += [f"### {title}: {len(found)} of {known}", ""]
        lines += [_entry(record) for record in sorted(found, key=lambda r: r["network"].lower())]
        lines += [""] if found else []
    return lines


def _entry(record: Record) -> str:
    words = record.get("error") or f"no result after {record['seconds']:.0f} s"
    words = _FOLDERS.sub("", " ".join(words.split())).replace("|", "/").replace("`", "'")[:220]
    return f"- {record['network']} ({record['variant']}): {record['outcome']}: {words}"
