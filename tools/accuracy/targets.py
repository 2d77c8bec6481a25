"""What the project set itself, held against the records."""

from __future__ import annotations

from dataclasses import dataclass

from tools.accuracy.catalog import BASELINE, BUDGETS, METHODS
from tools.accuracy.driver import Key
from tools.records import Record

CALIBRATED, DATA_FREE = "ours-calib", "ours"
_RANK = {"none": 0, "inputs": 1, "labels": 2}
_TIE = 0.05  # points; losses closer than this are equal


@dataclass(frozen=True)
class Target:
    """One bound.

    Attributes:
        networks: Networks that it binds.
        method: The method that has to meet it.
        budget: At which share of the MACs.
        metric: Of which metric.
        most_lost: Points that may be lost, or None where `least` binds.
        least: Percent to reach, or None.
    """

    networks: tuple[str, ...]
    method: str
    budget: float
    metric: str
    most_lost: float | None = None
    least: float | None = None


RESNET20, RESNET32 = (
    tuple(f"{seen}resnet{depth}_{kind}" for seen in ("", "unseen_") for kind in ("folded", "bn"))
    for depth in (20, 32)
)
TARGETS = (
    Target(RESNET20, CALIBRATED, 0.7, "top1", most_lost=0.8),
    Target(RESNET20, CALIBRATED, 0.5, "top1", most_lost=5.0),
    Target(RESNET32, CALIBRATED, 0.7, "top1", most_lost=0.7),
    Target(RESNET32, CALIBRATED, 0.5, "top1", most_lost=3.5),
    Target(("orientation",), CALIBRATED, 0.7, "top1", least=98.0),
    Target(("classifier",), CALIBRATED, 0.7, "top1", most_lost=2.0),
    Target(("recogniser",), CALIBRATED, 0.7, "characters", most_lost=2.0),
)


@dataclass(frozen=True)
class Comparison:
    """What one part of the tool has to add.

    Attributes:
        what: The claim.
        better: The method with that part.
        worse: The same without it; all else alike.
    """

    what: str
    better: str
    worse: str


COMPARISONS = (
    Comparison("uneven budgets, no more than even ones", CALIBRATED, "ours-calib-uniform"),
    Comparison("with the spine, no more than inner channels alone", CALIBRATED, "ours-calib-inner"),
)


def lost(records: dict[Key, Record], key: Key, metric: str) -> float | None:
    """Points between the dense network and a record; None where either is not there or failed.

    Args:
        records: Newest record of every measurement.
        key: The record meant.
        metric: The metric.

    Returns:
        Points.
    """
    network, _, _, split = key
    dense = records.get((network, BASELINE.name, 1.0, split))
    record = records.get(key)
    if any(found is None or found["outcome"] != "ok" for found in (dense, record)):
        return None
    assert dense is not None and record is not None
    return float(dense["metrics"][metric] - record["metrics"][metric])


def best_rival(
    records: dict[Key, Record], network: str, budget: float, split: str, metric: str, data: str
) -> tuple[float, str] | None:
    """The rival that loses least, of those that were given no more data.

    Args:
        records: Newest record of every measurement.
        network: The network.
        budget: Share of the MACs.
        split: `tune` or `report`.
        metric: The metric.
        data: What the rival may have been given at most.

    Returns:
        Points lost and the method's title, or None.
    """
    found = []
    for method in METHODS:
        if method.tool == "ours" or _RANK[method.data] > _RANK[data]:
            continue
        points = lost(records, (network, method.name, budget, split), metric)
        if points is not None:
            found.append((points, method.title))
    return min(found) if found else None


def section(
    records: dict[Key, Record], networks: list[tuple[str, str, str]], split: str
) -> list[str]:
    """The targets, each met or not.

    Args:
        records: Newest record of every measurement.
        networks: (name, title, metric) of those that were measured.
        split: `tune` or `report`.

    Returns:
        Lines of Markdown.
    """
    lines = ["## Targets", "", "| target | network | measured | |", "|---|---|---:|---|"]
    for target in TARGETS:
        lines += [_row(records, target, network, split) for network in target.networks]
    rows = [_free_row(records, *network, split) for network in networks]
    rows += [_part_row(records, part, *n, split) for part in COMPARISONS for n in networks]
    return [*lines, *(row for row in rows if row), ""]


def _row(records: dict[Key, Record], target: Target, network: str, split: str) -> str:
    key = (network, target.method, target.budget, split)
    points = lost(records, key, target.metric)
    if target.least is None:
        what = f"at most {target.most_lost:g} points of {target.metric} lost"
    else:
        what = f"at least {target.least:g} % {target.metric}"
    what = f"calibrated, {100 * target.budget:.0f} % of the MACs: {what}"
    if points is None:
        return f"| {what} | {network} | not measured | |"
    if target.least is None:
        assert target.most_lost is not None
        return _verdict(what, network, f"{points:.2f}", points <= target.most_lost)
    value = records[key]["metrics"][target.metric]
    return _verdict(what, network, f"{value:.2f}", value >= target.least)


def _verdict(what: str, network: str, value: str, met: bool) -> str:
    return f"| {what} | {network} | {value} | {'met' if met else '**not met**'} |"


def _part_row(
    records: dict[Key, Record], part: Comparison, network: str, title: str, metric: str, split: str
) -> str | None:
    """With a part of the tool against without it, at every budget that both have."""
    del title
    shown, met = [], True
    for budget in BUDGETS:
        better = lost(records, (network, part.better, budget, split), metric)
        worse = lost(records, (network, part.worse, budget, split), metric)
        if better is not None and worse is not None:
            shown.append(f"{budget:g}: {better:.1f} to {worse:.1f}")
            met &= better <= worse + _TIE
    if not shown:
        return None
    return _verdict(f"calibrated: {part.what} (points lost)", network, "; ".join(shown), met)


def _free_row(
    records: dict[Key, Record], network: str, title: str, metric: str, split: str
) -> str | None:
    """Data-free against the best data-free rival, at every budget that both have."""
    del title
    pairs = []
    for budget in BUDGETS:
        ours = lost(records, (network, DATA_FREE, budget, split), metric)
        rival = best_rival(records, network, budget, split, metric, "none")
        if ours is not None and rival is not None:
            pairs.append((budget, ours, rival[0]))
    if not pairs:
        return None
    behind = [f"{budget:g}: {a:.1f} to {b:.1f}" for budget, a, b in pairs if a > b + _TIE]
    what = "data-free: loses no more than the best data-free rival at any budget"
    value = f"{len(pairs) - len(behind)} of {len(pairs)} budgets"
    value += f"; behind at {', '.join(behind)}" if behind else ""
    return _verdict(what, network, value, not behind)
