"""Methods that rank units: one for every criterion, backward elimination, chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_scsp.describe import Criterion
from onnx_scsp.plan.clustering import scsp_curve, scsp_pick
from onnx_scsp.plan.method import Method, Pick, Tools, nested, straight, strongest_first
from onnx_scsp.types import FloatArray
from onnx_scsp.units import UnitTable


def rankings(criteria: Mapping[str, Criterion]) -> dict[str, Method]:
    """A method for each criterion: the least worthy units go, dead ones before all others.

    Args:
        criteria: The table of criteria.

    Returns:
        Name of the criterion -> method.
    """
    return {name: _ranking(name, criterion) for name, criterion in criteria.items()}


def _ranking(name: str, criterion: Criterion) -> Method:
    def value(table: UnitTable) -> FloatArray:
        return np.where(table.dead, 0.0, criterion(table))

    def curve(table: UnitTable, _: Tools) -> FloatArray:
        found = value(table)
        return nested(strongest_first(found), found)

    def pick(table: UnitTable, k: int, _: Tools) -> Pick:
        return Pick(np.sort(strongest_first(value(table))[:k]))

    doc = (criterion.__doc__ or name).strip().split("\n")[0].rstrip(".")
    return Method(
        name,
        f"units go by: {doc[:1].lower()}{doc[1:]}",
        curve,
        pick,
        # units one of a kind have no equals to make up for them: nothing of theirs is observed
        worth=lambda table, _: value(replace(table, activity=None)),
    )


def output_aware_curve(table: UnitTable, tools: Tools) -> FloatArray:
    """Units that no layer can be observed to read are judged by their weights."""
    return scsp_curve(table, tools) if tools.evidence is None else tools.evidence.damage


def output_aware_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    """The last units to go in backward elimination."""
    if tools.evidence is None:
        return scsp_pick(table, k, tools)
    order = tools.evidence.order
    return Pick(np.sort(order[order.size - k :]))


def random_curve(table: UnitTable, _: Tools) -> FloatArray:
    """Every unit carries the same."""
    return straight(table.n_units)


def random_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    """Any k units."""
    return Pick(np.sort(tools.rng.permutation(table.n_units)[:k]))
