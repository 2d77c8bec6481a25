"""Closes the facts: which labels are one unit, and which of them must stay.

Labels are nodes of a graph, equalities its edges, units its connected components (scipy).
Activation arrays that still vary along several axes after that are made rectangular: what is kept
on such a tensor has to be a product of one set per axis, so all but its last varying axis are tied
(inside a channel shuffle it has not: a cut shuffle becomes one Gather).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_scsp.couple.balance import balanced
from onnx_scsp.couple.components import components
from onnx_scsp.ops.site import Facts, FreezeFact, MemberFact
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
    channel_of = components(facts.n_labels, facts.equalities)
    # two uses of one weight go together, but what they make or read are different channels
    together = [*facts.equalities, *facts.ties, *_shared_tensors(facts)]
    unit_of = components(facts.n_labels, together)
    multi = [
        x.labels
        for name, x in facts.activations.items()
        if len(x.varying) > 1 and name not in facts.inside_shuffles
    ]
    for labels in multi:
        extra = _rectangular(unit_of[labels])
        if extra is not None:
            unit_of = components(int(unit_of.max()) + 1, [extra])[unit_of]
    unit_of = balanced(unit_of, facts.balances)
    n_classes = int(unit_of.max()) + 1 if facts.n_labels else 0
    reasons: dict[int, list[FreezeFact]] = {}
    for fact in facts.freezes:
        for unit in np.unique(unit_of[fact.labels]):
            reasons.setdefault(int(unit), []).append(fact)
    curved = frozenset(int(u) for labels in facts.curved for u in np.unique(unit_of[labels]))
    return Closure(unit_of, channel_of, n_classes, reasons, curved)


def _shared_tensors(facts: Facts) -> list[tuple[IntArray, IntArray]]:
    """Uses of one weight axis go together (per-channel vectors are copied per use instead)."""
    first: dict[tuple[str, int], IntArray] = {}
    edges = []
    for fact in facts.members:
        if is_copyable(fact):
            continue
        key = (fact.source.name, fact.axis)
        if key in first:
            a, b = np.broadcast_arrays(first[key], fact.labels)
            edges.append((a, b))
        else:
            first[key] = fact.labels
    return edges


def is_copyable(fact: MemberFact) -> bool:
    """Whether a shared constant is a mere vector, cheap to copy for each use that differs.

    The copy of a quantised one would hold real numbers.
    """
    return fact.is_vector and not fact.source.quantised


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
