"""Ratios and their intervals, from the rounds that the records hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_scsp.measure.resample import bootstrap_interval, noise_floor, ratio_of_medians
from tools.records import Record
from tools.speed.catalog import AGAIN, DENSE, OURS, Variant
from tools.speed.driver import Key


@dataclass(frozen=True)
class Ratio:
    """A latency relative to another one of the same rounds."""

    value: float
    low: float
    high: float


def ratio(record: Record, name: str, base: str = DENSE) -> Ratio | None:
    """How one file's latency relates to another's.

    Args:
        record: Of stage `time`.
        name: The file.
        base: What it is compared to.

    Returns:
        The ratio of medians with its interval; None where one of them was not timed.
    """
    rounds: Mapping[str, Any] = record.get("rounds_ms", {})
    if name not in rounds or base not in rounds:
        return None
    a, b = (np.array(rounds[key]) for key in (base, name))
    return Ratio(ratio_of_medians(a, b), *bootstrap_interval(a, b))


def floor(record: Record) -> float:
    """The noise floor: how far from 1 the dense file's ratio to itself reaches."""
    again = ratio(record, AGAIN)
    return float("inf") if again is None else noise_floor((again.low, again.high))


def best_rival(record: Record, chosen: Sequence[Variant]) -> tuple[Variant, Ratio] | None:
    """The rival whose file is fastest; None where none was timed."""
    found = [
        (variant, value)
        for variant in chosen
        if variant.tool != OURS and (value := ratio(record, variant.name)) is not None
    ]
    return min(found, key=lambda pair: pair[1].value, default=None)


def against(record: Record, rival: Variant, ours: str = OURS) -> tuple[str, Ratio] | None:
    """Ours relative to a rival: `faster`, `slower` or `alike`, beyond noise, and the ratio."""
    found = ratio(record, ours, rival.name)
    if found is None:
        return None
    noise = floor(record)
    if found.high < 1 - noise:
        return "faster", found
    return ("slower" if found.low > 1 + noise else "alike"), found


def macs_left(records: Mapping[Key, Record], network: str, variant: str) -> float | None:
    """Share of the MACs that a pruned file has left."""
    record = records.get(("prune", network, variant), {})
    share = record.get("macs_left")
    return None if share is None else float(share)
