"""What holds the MACs that a cut leaves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from onnx_scsp.couple import CostTerm, Coupling
from onnx_scsp.surgery.cut import kept_units
from onnx_scsp.types import BoolArray, Frozen, IntArray, PrunePlan

HALF_OF_BOTH = 0.25  # what a node keeps when both its channel axes are cut to half
WHOLE = 0.9  # an axis that keeps more than this counts as held
SHOWN = 8
_NAMELESS = "held without a reason of its own"
_LONELY = "units one of a kind (no other occurs in the same places): every kind keeps one"
_SOMEWHAT = "over half on both axes (odd widths round up; a residual spine keeps half as a whole)"
_LUMP = "most of its channels are one unit: groups that cross at random balance only together"
_MOST = 0.5  # of an axis: a unit with more is what holds it


def causes(coupling: Coupling, plan: PrunePlan | None) -> dict[str, Any]:
    """Shares of the network's MACs above a quarter, by what holds them.

    A node keeps a quarter of its MACs where its inputs and its outputs are both cut to half. What
    it keeps above that is put down to the axis that was not cut: to the reasons given for its own
    filters, or to those given for the layers that it reads.

    Args:
        coupling: The network's coupling.
        plan: The cut, or None for the network as it is.

    Returns:
        `causes`: [share, cause, an example node] by falling share; `frozen`: [share, reason, node,
        detail] by the MACs of the layers that each reason holds.
    """
    keep = np.ones(coupling.n_units, bool) if plan is None else kept_units(coupling, plan)
    total = max(coupling.macs, 1)
    shares: Counter[str] = Counter()
    example: dict[str, str] = {}
    reasons = _reasons(coupling)
    sources = _sources(coupling)
    lonely = _lonely(coupling)
    for term in coupling.costs:
        excess = (term.macs_with(keep) - HALF_OF_BOTH * term.macs) / total
        if excess <= 0:
            continue
        found = _blame(term, keep, reasons, sources)
        if found == [_NAMELESS] and any(_has_lump(units, keep) for units in term.vectors):
            found = [_LUMP]
        elif found == [_NAMELESS] and any(
            lonely[units[units >= 0]].any() for units in term.vectors
        ):
            found = [_LONELY]
        for cause in found:
            shares[cause] += excess / len(found)  # type: ignore[assignment]
            example.setdefault(cause, term.node)
    top = [[round(share, 5), cause, example[cause]] for cause, share in shares.most_common(SHOWN)]
    return {"causes": top, "frozen": _frozen(coupling, total)}


def _blame(
    term: CostTerm,
    keep: BoolArray,
    reasons: dict[str, list[str]],
    sources: dict[str, list[str]],
) -> list[str]:
    """Causes of one node: what is said of its filters where they stay, else of what it reads."""
    stays = np.append(keep, True)
    held = [float(stays[units].mean()) > WHOLE for units in term.vectors if units.size]
    if len(term.vectors) < 2 and not any(held):
        return ["one channel axis (depthwise, cut to half)"]
    if not any(held):
        return [_SOMEWHAT]
    found: list[str] = []
    own = reasons.get(term.node, [])
    read = [cause for layer in sources.get(term.node, []) for cause in reasons.get(layer, [])]
    if len(held) == 1:
        found = own or read
    else:
        found = [*(own if held[0] else []), *(read if any(held[1:]) else [])]
    found = found or own or read
    if not found and "" in sources.get(term.node, []):
        return ["reads the graph input"]
    return sorted(set(found)) or [_NAMELESS]


def _has_lump(units: IntArray, keep: BoolArray) -> bool:
    """Whether one unit that stays has most of an axis' entries."""
    owned = units[units >= 0]
    if not owned.size:
        return False
    count = np.bincount(owned)
    return bool(keep[int(count.argmax())] and count.max() > _MOST * units.size)


def _lonely(coupling: Coupling) -> BoolArray:
    """Units whose profile no other unit of their group has: every profile keeps one unit."""
    result = np.zeros(coupling.n_units, bool)
    for group in coupling.map.groups:
        count = np.bincount(group.profile)
        start = coupling.offsets[group.id]
        result[start : start + group.n_units] = count[group.profile] == 1
    return result


def _label(frozen: Frozen, op_types: dict[str, str]) -> str:
    where = op_types.get(frozen.node, "")
    return f"{frozen.reason.value}{f' ({where})' if where else ''}: {frozen.detail}"


def _reasons(coupling: Coupling) -> dict[str, list[str]]:
    op_types = {node.name: node.op_type for node in coupling.walk.graph.nodes}
    found: dict[str, list[str]] = {}
    for frozen in coupling.map.frozen:
        for layer in frozen.layers:
            label = _label(frozen, op_types)
            if label not in found.setdefault(layer, []):
                found[layer].append(label)
    return found


def _sources(coupling: Coupling) -> dict[str, list[str]]:
    """Node -> layers whose channels it reads; "" stands for the graph input.

    A layer that filters channels one by one hands on those that it reads.
    """
    alone = {term.node for term in coupling.costs if len(term.vectors) < 2}
    layers = {layer.node for layer in coupling.map.layers} - alone
    inputs = {spec.name for spec in coupling.walk.specs}
    made: dict[str, frozenset[str]] = {name: frozenset({""}) for name in inputs}
    found: dict[str, list[str]] = {}
    for node in coupling.walk.graph.nodes:
        read = frozenset().union(*(made.get(name, frozenset()) for name in node.inputs))
        found[node.name] = sorted(read)
        for name in node.outputs:
            made[name] = frozenset({node.name}) if node.name in layers else read
    return found


def _frozen(coupling: Coupling, total: int) -> list[list[Any]]:
    macs = {layer.node: layer.macs for layer in coupling.map.layers}
    rows = [
        [
            round(sum(macs.get(name, 0) for name in frozen.layers) / total, 5),
            frozen.reason.value,
            frozen.node,
            frozen.detail,
        ]
        for frozen in coupling.map.frozen
    ]
    return sorted(rows, key=lambda row: float(row[0]), reverse=True)[:SHOWN]
