"""Methods that cluster.

`scsp` (Zhuo et al., arXiv 1806.05320, layer-wise): cluster, score the clusters, let the least
efficient clusters go. `one-per-cluster` (Li, Zhu, Sun, IEICE 2019): one graph over the network,
edges only between comparable units, so that its Laplacian is block-diagonal; the K smallest
eigenvalues over all blocks say how many units each block keeps; one unit of each cluster stays.
What the abstracts leave open is decided in docs/methods.md.

`folding` (Wang et al., arXiv 2502.10216): k-means on the filters themselves, not on their
directions; what a cluster loses is its members' squared distance from their mean, and k means leave
at least the n - k smallest eigenvalues of the filters' Gram matrix (Ding and He 2004).
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.partition import (
    Spectrum,
    affinity,
    clone_classes,
    clusters_of,
    cosine,
    kmeans_rows,
    spectral_clusters,
    spectrum,
)
from onnx_scsp.plan.method import Pick, Ranking, Tools, nested, strongest_first
from onnx_scsp.types import BoolArray, FloatArray, IntArray, Partition
from onnx_scsp.units import UnitTable

# ---- one-per-cluster ------------------------------------------------------------------------


def _distinct(table: UnitTable, cosines: FloatArray) -> tuple[IntArray, BoolArray]:
    """Rows that are alive and no copy of an earlier row, and which rows are such copies."""
    first = np.unique(clone_classes(cosines), return_index=True)[1]
    is_copy = np.ones(table.n_units, bool)
    is_copy[first] = False
    return np.sort(first[~table.dead[first]]), is_copy


def _among(rows: IntArray, cosines: FloatArray) -> FloatArray:
    """Cosines among some rows."""
    return cosines if rows.size == len(cosines) else cosines[np.ix_(rows, rows)]


def one_per_cluster_curve(table: UnitTable, _: Tools) -> FloatArray:
    """Loss of the k-th cluster is its eigenvalue's closeness to 0; copies and dead units are free.

    Every block's eigenvalues run from 0 to at most 2: adding the k-th cluster is worth
    (2 - eigenvalue_k), the same scale for every block, as in one Laplacian over the network.
    """
    cosines = cosine(table.features)
    rows = _distinct(table, cosines)[0]
    worth = np.zeros(table.n_units)
    if rows.size:
        near = affinity(_among(rows, cosines)) if rows.size > 1 else None
        values = np.zeros(1) if near is None else spectrum(near, overwrite=True).values
        worth[: rows.size] = np.clip(2.0 - values, 1e-9, None)
    return np.asarray(worth.sum() - np.concatenate([[0.0], np.cumsum(worth)]))


def one_per_cluster_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
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
    rest = strongest_first(np.where(chosen, -np.inf, np.where(table.dead, -1.0, worth)))
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
    cosines = cosine(table.features)
    rows, is_copy = _distinct(table, cosines)
    part = _partition(table, rows, cosines, tools)
    value = tools.criterion(table)
    relevance = value / max(float(value.sum()), 1e-300)
    same = part.labels[:, None] == part.labels[None, :]
    others = np.maximum(n - same.sum(axis=1), 1)
    apart = np.abs(cosines, out=cosines)
    apart[same] = 0.0
    worth = relevance * (1.0 - apart.sum(axis=1) / others)
    worth[table.dead] = 0.0
    is_copy |= table.dead
    score = np.array([worth[part.labels == label].mean() for label in range(part.k)])
    order = np.lexsort((np.arange(n), -worth, -score[part.labels], is_copy))
    return np.asarray(order, np.int64), np.where(is_copy, 0.0, table.energy)


def _partition(table: UnitTable, rows: IntArray, cosines: FloatArray, tools: Tools) -> Partition:
    """The clusters; the spectrum that says how many there are also makes them, if it can."""
    if rows.size < 4:
        return tools.cluster(table.features, max(1, int(rows.size)))
    found = spectrum(affinity(_among(rows, cosines)), overwrite=True)
    k = _n_clusters(found)
    if rows.size == table.n_units and tools.cluster is spectral_clusters:
        return clusters_of(found, k)
    return tools.cluster(table.features, k)


def _n_clusters(found: Spectrum) -> int:
    """The widest eigengap between 2 and n / 2 clusters."""
    gaps = np.diff(found.values)[1 : found.values.size // 2]
    return int(np.argmax(gaps)) + 2 if gaps.size else 2


def scsp_curve(table: UnitTable, tools: Tools) -> FloatArray:
    """Share of the energy that goes, cluster by cluster; copies carry none."""
    return nested(*_efficiency(table, tools))


def scsp_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    """The units of the most efficient clusters."""
    return Pick(np.sort(_efficiency(table, tools)[0][:k]))


# ---- folding --------------------------------------------------------------------------------


def folding_curve(table: UnitTable, _: Tools) -> FloatArray:
    """Share of the squared norm outside the best k means, from below."""
    values = np.sort(np.clip(np.linalg.eigvalsh(table.features), 0.0, None))[::-1]
    return nested(np.arange(table.n_units), values)


def folding_pick(table: UnitTable, k: int, _: Tools) -> Pick:
    """The unit nearest to the mean of each k-means cluster; dead units belong to none."""
    alive = np.flatnonzero(~table.dead)
    clusters = np.full(table.n_units, -1)
    keep: list[int] = []
    size = np.diagonal(table.features)
    if alive.size:
        part = kmeans_rows(table.features[np.ix_(alive, alive)], min(k, alive.size))
        clusters[alive] = part.labels
        for label in range(part.k):
            members = alive[part.labels == label]
            inner = table.features[np.ix_(members, members)]
            # squared distance from the mean, but for what is equal for all members
            keep.append(int(members[np.argmin(size[members] - 2.0 * inner.mean(axis=1))]))
    chosen = np.zeros(table.n_units, bool)
    chosen[keep] = True
    rest = strongest_first(np.where(chosen, -np.inf, np.where(table.dead, -1.0, size)))
    keep.extend(int(row) for row in rest[: k - len(keep)])
    return Pick(np.sort(np.array(keep, np.int64)), clusters)
