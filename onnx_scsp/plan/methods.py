"""The table of methods: how many units a set of comparable units is worth, and which ones stay.

A method says two things about one unit table:

    curve(table, tools)[k]   estimated share of the table's signal that is lost when k units stay,
                             k = 0..n, not increasing, curve[n] = 0
    pick(table, k, tools)    which k units stay, and for cluster methods the cluster of each unit

`scsp` (Zhuo et al., arXiv 1806.05320, layer-wise): cluster, score the clusters, let the least
efficient clusters go. `one-per-cluster` (Li, Zhu, Sun, IEICE 2019): one graph over the network,
edges only between comparable units, so that its Laplacian is block-diagonal; the K smallest
eigenvalues over all blocks say how many units each block keeps; one unit of each cluster stays.
What the abstracts leave open is decided in docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from onnx_scsp.describe import Criterion
from onnx_scsp.describe.criteria import magnitude
from onnx_scsp.observe import PoolEvidence
from onnx_scsp.partition import Clusterer, affinity, clone_classes, cosine, eigenvalues
from onnx_scsp.types import FloatArray, IntArray, UnitTable


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Units that stay.

    Attributes:
        keep: int (k,), rows of the table, ascending.
        clusters: int (n,), cluster of each row, or None where the method does not cluster. A
            removed row is only taken over by a kept row of its own cluster.
    """

    keep: IntArray
    clusters: IntArray | None = None


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
        rankings: What a method has found out about the table, for `pick` to reuse after `curve`.
    """

    cluster: Clusterer
    criterion: Criterion
    rng: np.random.Generator
    evidence: PoolEvidence | None = None
    rankings: dict[str, Ranking] = field(default_factory=dict)


Curve = Callable[[UnitTable, Tools], FloatArray]
Picker = Callable[[UnitTable, int, Tools], Pick]


def by_criterion(table: UnitTable, tools: Tools) -> FloatArray:
    """Every unit's worth by the criterion."""
    return tools.criterion(table)


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


def _nested(order: IntArray, value: FloatArray) -> FloatArray:
    """Loss curve of a method that removes units in the reverse of `order`."""
    total = float(value.sum())
    kept = np.concatenate([[0.0], np.cumsum(value[order])])
    return np.asarray(1.0 - kept / total, np.float64) if total > 0 else _straight(order.size)


def _straight(n_units: int) -> FloatArray:
    """Every unit carries the same."""
    return np.linspace(1.0, 0.0, n_units + 1, dtype=np.float64)


def _strongest_first(value: FloatArray) -> IntArray:
    return np.argsort(-value, kind="stable")


# ---- l2 -------------------------------------------------------------------------------------


def _l2_curve(table: UnitTable, _: Tools) -> FloatArray:
    value = magnitude(table)
    return _nested(_strongest_first(value), value)


def _l2_pick(table: UnitTable, k: int, _: Tools) -> Pick:
    return Pick(np.sort(_strongest_first(magnitude(table))[:k]))


# ---- random ---------------------------------------------------------------------------------


def _random_curve(table: UnitTable, _: Tools) -> FloatArray:
    return _straight(table.n_units)


def _random_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    return Pick(np.sort(tools.rng.permutation(table.n_units)[:k]))


# ---- one-per-cluster ------------------------------------------------------------------------


def _distinct(table: UnitTable) -> tuple[IntArray, FloatArray]:
    """Rows that are alive and no copy of an earlier row, and their cosines."""
    cosines = cosine(table.features)
    first = np.unique(clone_classes(cosines), return_index=True)[1]
    rows = np.sort(first[~table.dead[first]])
    return rows, cosines[np.ix_(rows, rows)]


def _one_per_cluster_curve(table: UnitTable, _: Tools) -> FloatArray:
    """Loss of the k-th cluster is its eigenvalue's closeness to 0; copies and dead units are free.

    Every block's eigenvalues run from 0 to at most 2: adding the k-th cluster is worth
    (2 - eigenvalue_k), the same scale for every block, as in one Laplacian over the network.
    """
    rows, cosines = _distinct(table)
    worth = np.zeros(table.n_units)
    if rows.size:
        values = eigenvalues(affinity(cosines)) if rows.size > 1 else np.zeros(1)
        worth[: rows.size] = np.clip(2.0 - values, 1e-9, None)
    return np.asarray(worth.sum() - np.concatenate([[0.0], np.cumsum(worth)]))


def _one_per_cluster_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    """The worthiest unit of each cluster; dead units only when nothing else is left."""
    alive = np.flatnonzero(~table.dead)
    clusters = np.full(table.n_units, -1)
    worth = tools.criterion(table)
    keep: list[int] = []
    if alive.size:
        part = tools.cluster(table.features[np.ix_(alive, alive)], min(k, alive.size))
        clusters[alive] = part.labels
        for label in range(part.k):
            members = alive[part.labels == label]
            keep.append(int(members[np.argmax(worth[members])]))
    chosen = np.zeros(table.n_units, bool)
    chosen[keep] = True
    rest = _strongest_first(np.where(chosen, -np.inf, np.where(table.dead, -1.0, worth)))
    keep.extend(int(row) for row in rest[: k - len(keep)])
    return Pick(np.sort(np.array(keep, np.int64)), clusters)


# ---- scsp -----------------------------------------------------------------------------------


def _efficiency(table: UnitTable, tools: Tools) -> Ranking:
    """The ranking by clusters, made once per table: its eigenvectors are what takes time."""
    if "scsp" not in tools.rankings:
        tools.rankings["scsp"] = _rank_clusters(table, tools)
    return tools.rankings["scsp"]


def _rank_clusters(table: UnitTable, tools: Tools) -> Ranking:
    """Ranks cluster by cluster.

    Efficiency of a cluster = mean over its units of relevance x complementarity; relevance is a
    unit's share of the criterion, complementarity 1 - its mean |cosine| with the other clusters.
    A copy of a unit that is ranked before it complements nothing: it carries 0 and goes first.
    """
    n = table.n_units
    part = tools.cluster(table.features, _n_clusters(table))
    cosines = cosine(table.features)
    value = tools.criterion(table)
    relevance = value / max(float(value.sum()), 1e-300)
    same = part.labels[:, None] == part.labels[None, :]
    others = np.maximum((~same).sum(axis=1), 1)
    worth = relevance * (1.0 - (np.abs(cosines) * ~same).sum(axis=1) / others)
    worth[table.dead] = 0.0
    is_copy = np.ones(n, bool)
    is_copy[np.unique(clone_classes(cosines), return_index=True)[1]] = False
    is_copy |= table.dead
    score = np.array([worth[part.labels == label].mean() for label in range(part.k)])
    order = np.lexsort((np.arange(n), -worth, -score[part.labels], is_copy))
    return np.asarray(order, np.int64), np.where(is_copy, 0.0, table.energy)


def _n_clusters(table: UnitTable) -> int:
    """The widest eigengap between 2 and n / 2 clusters."""
    rows, cosines = _distinct(table)
    if rows.size < 4:
        return max(1, int(rows.size))
    values = eigenvalues(affinity(cosines))
    gaps = np.diff(values)[1 : rows.size // 2]
    return int(np.argmax(gaps)) + 2 if gaps.size else 2


def _scsp_curve(table: UnitTable, tools: Tools) -> FloatArray:
    return _nested(*_efficiency(table, tools))


def _scsp_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    return Pick(np.sort(_efficiency(table, tools)[0][:k]))


# ---- output-aware ---------------------------------------------------------------------------


def _output_aware_curve(table: UnitTable, tools: Tools) -> FloatArray:
    """Units that no layer can be observed to read are judged by their weights."""
    return _scsp_curve(table, tools) if tools.evidence is None else tools.evidence.damage


def _output_aware_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    if tools.evidence is None:
        return _scsp_pick(table, k, tools)
    order = tools.evidence.order
    return Pick(np.sort(order[order.size - k :]))


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(
                "one-per-cluster",
                "spectral clusters over the whole network, one unit of each stays",
                _one_per_cluster_curve,
                _one_per_cluster_pick,
                per_cost=False,
            ),
            Method(
                "scsp",
                "spectral clusters per layer, the least efficient clusters go",
                _scsp_curve,
                _scsp_pick,
            ),
            Method(
                "output-aware",
                "what the readers lose least, after their repair, on calibration inputs",
                _output_aware_curve,
                _output_aware_pick,
            ),
            Method(
                "l2",
                "baseline: units of smallest norm go",
                _l2_curve,
                _l2_pick,
                worth=lambda table, _: magnitude(table),
            ),
            Method(
                "random",
                "baseline: random units go",
                _random_curve,
                _random_pick,
                worth=lambda table, tools: tools.rng.random(table.n_units),
            ),
        )
    }
)
"""Methods by name. Extend a copy: `METHODS | {"mine": Method(...)}`."""
