"""The unit tables of a whole model, with what is known beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from onnx_scsp.couple import Coupling
from onnx_scsp.describe import unit_tables
from onnx_scsp.observe import PoolEvidence
from onnx_scsp.plan.abreast import abreast
from onnx_scsp.plan.importance import check_importance
from onnx_scsp.types import ChannelGroup, FloatArray
from onnx_scsp.units import UnitTable


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

    found = abreast(
        lambda place: described(groups[place]),
        [group.n_units for group in groups],
        partial(progress, "describing groups"),
    )
    return [table for tables in found for table in tables]


def with_activity(table: UnitTable, found: PoolEvidence | None) -> UnitTable:
    """The same table with what inputs show about its units, where anything does."""
    if found is None:
        return table
    return replace(table, activity=found.activity)
