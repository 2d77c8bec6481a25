"""Closes the facts: which labels are one unit, and which of them must stay.

Labels are nodes of a graph, equalities its edges, units its connected components (scipy).
Activation arrays that still vary along several axes after that are made rectangular: what is kept
on such a tensor has to be a product of one set per axis, so all but its last varying axis are tied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from onnx_scsp.ops.site import Facts, FreezeFact
from onnx_scsp.types import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Closure:
    """Labels after closing.

    Attributes:
        unit_of: int64 (n_labels,), the class of each label.
        channel_of: int64 (n_labels,), finer: labels that carry one channel, ties left out.
        n_classes: Number of classes.
        reasons: Class -> freeze facts that touch it.
        curved: Classes that pass an operator that does not commute with a positive factor.
    """

    unit_of: IntArray
    channel_of: IntArray
    n_classes: int
    reasons: dict[int, list[FreezeFact]]
    curved: frozenset[int]


def close(facts: Facts) -> Closure:
    """Closes equalities, shared tensors and rectangularity.

    Args:
        facts: The facts of a walk.

    Returns:
        Classes of labels.
    """
    same = [*facts.equalities, *_shared_tensors(facts)]
    channel_of = _components(facts.n_labels, same)
    unit_of = _components(facts.n_labels, [*same, *facts.ties])
    multi = [x.labels for x in facts.activations.values() if len(x.varying) > 1]
    for labels in multi:
        extra = _rectangular(unit_of[labels])
        if extra is not None:
            unit_of = _components(int(unit_of.max()) + 1, [extra])[unit_of]
    n_classes = int(unit_of.max()) + 1 if facts.n_labels else 0
    reasons: dict[int, list[FreezeFact]] = {}
    for fact in facts.freezes:
        for unit in np.unique(unit_of[fact.labels]):
            reasons.setdefault(int(unit), []).append(fact)
    curved = frozenset(int(u) for labels in facts.curved for u in np.unique(unit_of[labels]))
    return Closure(unit_of, channel_of, n_classes, reasons, curved)


def _components(count: int, edges: list[tuple[IntArray, IntArray]]) -> IntArray:
    if not edges:
        return np.arange(count, dtype=np.int64)
    left = np.concatenate([a.reshape(-1) for a, _ in edges])
    right = np.concatenate([b.reshape(-1) for _, b in edges])
    graph = coo_matrix((np.ones(left.size, np.int8), (left, right)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _shared_tensors(facts: Facts) -> list[tuple[IntArray, IntArray]]:
    """Uses of one weight axis go together (per-channel vectors are copied per use instead)."""
    first: dict[tuple[str, int], IntArray] = {}
    edges = []
    for fact in facts.members:
        if is_copyable(fact.source.axes):
            continue
        key = (fact.source.name, fact.axis)
        if key in first:
            edges.append((first[key], fact.labels))
        else:
            first[key] = fact.labels
    return edges


def is_copyable(axes: tuple[int, ...]) -> bool:
    """Whether a shared constant is a mere vector, cheap to copy for each use that differs."""
    return sum(axis >= 0 for axis in axes) <= 1


def _rectangular(classes: IntArray) -> tuple[IntArray, IntArray] | None:
    """Edges that tie all but the last varying axis, or None where nothing varies twice."""
    varying = [
        axis
        for axis, size in enumerate(classes.shape)
        if size > 1 and (classes != classes.take([0], axis=axis)).any()
    ]
    if len(varying) < 2:
        return None
    rows = np.moveaxis(classes, varying[-1], -1).reshape(-1, classes.shape[varying[-1]])
    first = np.broadcast_to(rows[:1], rows.shape)
    differ = rows != first
    return first[differ], rows[differ]
