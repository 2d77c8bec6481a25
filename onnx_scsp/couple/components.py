"""Connected components of label graphs (scipy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from onnx_scsp.types import IntArray

Edges = tuple[IntArray, IntArray]
"""Two arrays of equal size: entry i of one is joined with entry i of the other."""


def components(count: int, edges: Sequence[Edges]) -> IntArray:
    """Component of each of `count` nodes, int64 (count,)."""
    if not edges:
        return np.arange(count, dtype=np.int64)
    left, right = merged(edges)
    graph = coo_matrix((np.ones(left.size, np.int8), (left, right)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def merged(edges: Sequence[Edges]) -> Edges:
    """All edges as one pair of flat arrays."""
    return (
        np.concatenate([a.reshape(-1) for a, _ in edges]),
        np.concatenate([b.reshape(-1) for _, b in edges]),
    )
