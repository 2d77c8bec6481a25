"""The unit tables of a whole model, with what is known beside the weights.

Most of the work is products of large matrices, during which numpy lets other threads run: groups
are described two at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from onnx_scsp.couple import Coupling
from onnx_scsp.describe import unit_tables
from onnx_scsp.observe import PoolEvidence
from onnx_scsp.plan.importance import check_importance
from onnx_scsp.types import ChannelGroup, FloatArray
from onnx_scsp.units import UnitTable

_WORKERS = 2


def describe(
    coupling: Coupling,
    importance: Mapping[str, FloatArray],
    progress: Callable[[str, int, int], None],
) -> list[UnitTable]:
    """Describes every group by its weights, one table per profile.

    Args:
        coupling: The model.
        importance: Constant -> scores given from outside.
        progress: Called with (what, done, total).

    Returns:
        Tables, group by group.

    Raises:
        ConfigError: A score names no constant, or is not one number per channel.
    """
    groups, constants = coupling.map.groups, coupling.walk.constants
    scores = check_importance(coupling, importance)
    scales = frozenset(
        constants.source(node.inputs[1]).name
        for node in coupling.walk.graph.nodes
        if node.op_type == "BatchNormalization" and not node.domain and node.inputs[1] in constants
    )

    def described(group: ChannelGroup) -> tuple[UnitTable, ...]:
        return unit_tables(
            group,
            coupling.map.chains,
            constants.real,
            constants.code_tensors,
            scales,
            scores,
        )

    widest_first = sorted(range(len(groups)), key=lambda i: -groups[i].n_units)
    with ThreadPoolExecutor(_WORKERS) as pool:
        # the widest takes longest: begun last, it would keep one thread waiting
        pending = {i: pool.submit(described, groups[i]) for i in widest_first}
        tables: list[UnitTable] = []
        for i in range(len(groups)):
            progress("describing groups", i, len(groups))
            tables.extend(pending.pop(i).result())
    progress("describing groups", len(groups), len(groups))
    return tables


def with_activity(table: UnitTable, found: PoolEvidence | None) -> UnitTable:
    """The same table with what inputs show about its units, where anything does."""
    if found is None:
        return table
    return replace(table, activity=found.activity)
