"""What a method is.

A method says two things about one unit table:

    curve(table, tools)[k]   estimated share of the table's signal that is lost when k units stay,
                             k = 0..n, not increasing, curve[n] = 0
    pick(table, k, tools)    which k units stay, and for cluster methods the cluster of each unit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_scsp.describe import Criterion
from onnx_scsp.observe import PoolEvidence
from onnx_scsp.partition import Clusterer
from onnx_scsp.types import BoolArray, FloatArray, IntArray
from onnx_scsp.units import UnitTable


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Units that stay.

    Attributes:
        keep: int (k,), rows of the table, ascending.
        clusters: int (n,), cluster of each row, or None where the method does not cluster. A
            removed row is only taken over by a kept row of its own cluster.
        criterion: Name of the criterion that decided, '' where there was no choice among them.
    """

    keep: IntArray
    clusters: IntArray | None = None
    criterion: str = ""


Ranking = tuple[IntArray, FloatArray]
"""Rows from most to least worth keeping, and what each row carries."""


@dataclass(frozen=True, slots=True, eq=False)
class Tools:
    """What a method works with.

    Attributes:
        cluster: The clusterer.
        criterion: What a unit is worth.
        rng: Random numbers, seeded per table.
        evidence: What calibration inputs say about the table's units, or None.
        criteria: The table of criteria, for methods that choose among them.
        trial: Choices of rows that stay -> what each does to the network, on held-out inputs; None
            where there are no inputs.
        rankings: What a method has found out about the table, for `pick` to reuse after `curve`.
    """

    cluster: Clusterer
    criterion: Criterion
    rng: np.random.Generator
    evidence: PoolEvidence | None = None
    criteria: Mapping[str, Criterion] = field(default_factory=dict)
    trial: Callable[[Sequence[BoolArray]], list[float]] | None = None
    rankings: dict[str, Ranking] = field(default_factory=dict)


Curve = Callable[[UnitTable, Tools], FloatArray]
Picker = Callable[[UnitTable, int, Tools], Pick]


def by_criterion(table: UnitTable, tools: Tools) -> FloatArray:
    """Every unit's worth by the criterion; by the weights, if that reads inputs.

    Units one of a kind have no equals to make up for them, so that nothing is observed.
    """
    return tools.criterion(replace(table, activity=None))


@dataclass(frozen=True, slots=True)
class Method:
    """One way to choose.

    Attributes:
        name: Name on the command line.
        doc: One line.
        curve: Loss over k.
        pick: Who stays.
        per_cost: Whether the allocation weighs loss against saved cost (else loss alone decides).
        worth: What each unit is worth, comparable between the tables of one group: it ranks units
            that are one of a kind, among which `pick` has no choice.
    """

    name: str
    doc: str
    curve: Curve
    pick: Picker
    per_cost: bool = True
    worth: Curve = by_criterion


def nested(order: IntArray, value: FloatArray) -> FloatArray:
    """Loss curve of a method that removes units in the reverse of `order`.

    Args:
        order: int (n,), rows, the one that stays longest first.
        value: float64 (n,), what each row carries.

    Returns:
        float64 (n + 1,), share of the whole that is lost when k rows stay.
    """
    total = float(value.sum())
    kept = np.concatenate([[0.0], np.cumsum(value[order])])
    return np.asarray(1.0 - kept / total, np.float64) if total > 0 else straight(order.size)


def straight(n_units: int) -> FloatArray:
    """Every unit carries the same."""
    return np.linspace(1.0, 0.0, n_units + 1, dtype=np.float64)


def strongest_first(value: FloatArray) -> IntArray:
    """Rows by falling value; equal ones in their order."""
    return np.argsort(-value, kind="stable")
