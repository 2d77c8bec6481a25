"""Where tools are compared at equal terms: what each of them was made to give up."""

from __future__ import annotations

from collections.abc import Mapping

from tools.coverage.driver import WORSE, Key
from tools.records import Record

_NORMALISES = "normalis"


def normalises(record: Record | None) -> bool:
    """Whether a normalisation over channels is among what holds a network."""
    causes = (record or {}).get("causes", [])
    return any(_NORMALISES in cause for _, cause, _ in causes)


def share_of_rival(records: Mapping[Key, Record], name: str) -> float | None:
    """Share of channels that Torch-Pruning kept, where it left clearly fewer MACs than onnx_scsp.

    Args:
        records: Newest record of every measurement.
        name: The network.

    Returns:
        The share, or None where nothing needs explaining.
    """
    ours, theirs = (records.get((name, "ts", tool), {}) for tool in ("ours", "tp"))
    if not (ours.get("outcome") == theirs.get("outcome") == "ok" and "overcut" in theirs):
        return None
    if ours["macs_left"] <= theirs["macs_left"] + WORSE or not theirs["overcut"]:
        return None
    return round(float(theirs["channels_left"]), 4)
