"""Nodes that run over channels without a weight, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_scsp.ops.site import ReductionFact
from onnx_scsp.types import IntArray, Reduction, read_only


def reductions_by_group(
    facts: Sequence[ReductionFact],
    global_of: IntArray,
    group_of_unit: IntArray,
    offsets: Sequence[int],
) -> dict[int, list[Reduction]]:
    """One record for each node and group that it touches.

    Args:
        facts: What the rules stated.
        global_of: Label -> global unit, -1 for labels that stay.
        group_of_unit: Global unit -> group number.
        offsets: Group number -> its first global unit.

    Returns:
        Group number -> records in graph order.
    """
    found: dict[int, list[Reduction]] = {}
    for fact in facts:
        units = global_of[fact.labels]
        for group in np.unique(group_of_unit[units[units >= 0]]).tolist():
            mine = (units >= 0) & (group_of_unit[units] == group)
            local = read_only(np.where(mine, units - offsets[group], -1))
            record = Reduction(fact.value, fact.axis, local, fact.use, fact.restricted)
            found.setdefault(group, []).append(record)
    return found
