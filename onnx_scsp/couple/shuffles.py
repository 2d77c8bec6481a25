"""Channel shuffles: Reshape - Transpose - Reshape that only reorders the entries of one axis.

Spelled like that, a shuffle can only be cut where what stays is a rectangle of the split axis. As a
Gather it can be cut anywhere: surgery writes one where the rectangle is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.graph.view import GraphView, NodeView
from onnx_scsp.types import IntArray

_LARGEST = 1 << 26
"""Elements of an activation beyond which a candidate is not tried out."""


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle:
    """One reordering.

    Attributes:
        source: The value that is reordered.
        first: Index of the first Reshape.
        last: Index of the second Reshape, whose output is the reordered value.
        inside: The two values in between, which nothing else reads.
        axis: The reordered axis.
        order: int (axis length,): entry i of the output is entry order[i] of the source.
    """

    source: str
    first: int
    last: int
    inside: tuple[str, str]
    axis: int
    order: IntArray


def find_shuffles(graph: GraphView, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Shuffle, ...]:
    """Finds the shuffles of a graph.

    Args:
        graph: The graph.
        shapes: Concrete shapes of its values.

    Returns:
        Shuffles in graph order.
    """
    found = (_shuffle(node, graph, shapes) for node in graph.nodes if _is(node, "Transpose"))
    return tuple(shuffle for shuffle in found if shuffle is not None)


def _shuffle(
    transpose: NodeView,
    graph: GraphView,
    shapes: Mapping[str, tuple[int, ...]],
) -> Shuffle | None:
    before, after = transpose.inputs[0], transpose.outputs[0]
    first = graph.producers.get(before)
    readers = graph.consumers.get(after, ())
    if first is None or not _is(first, "Reshape") or len(readers) != 1:
        return None
    last = readers[0]
    if not _is(last, "Reshape") or last.inputs[0] != after or last.captured:
        return None
    if len(graph.consumers.get(before, ())) != 1 or {before, after} & set(graph.outputs):
        return None
    source, result = first.inputs[0], last.outputs[0]
    if source not in shapes or before not in shapes or shapes.get(result) != shapes[source]:
        return None
    perm = transpose.attr("perm") or list(range(len(shapes[before])))[::-1]
    place = _reordered_axis(shapes[source], shapes[before], perm)
    if place is None:
        return None
    return Shuffle(source, first.index, last.index, (before, after), *place)


def _is(node: NodeView, op_type: str) -> bool:
    return node.op_type == op_type and node.domain == ""


def _reordered_axis(
    shape: tuple[int, ...], middle: tuple[int, ...], perm: list[int]
) -> tuple[int, IntArray] | None:
    """The one axis that is reordered, and how; found by moving numbered entries."""
    size = int(np.prod(shape))
    if not 0 < size <= _LARGEST or len(perm) != len(middle):
        return None
    entries = np.arange(size).reshape(shape)
    moved = entries.reshape(middle).transpose(perm).reshape(shape)
    for axis, length in enumerate(shape):
        stride = int(np.prod(shape[axis + 1 :]))
        corner = tuple(slice(None) if a == axis else 0 for a in range(len(shape)))
        order = moved[corner] // stride
        if (order == np.arange(length)).all() or (order >= length).any():
            continue
        same = np.array_equal(moved, np.take(entries, order, axis=axis))
        return (axis, np.asarray(order, np.int64)) if same else None
    return None
