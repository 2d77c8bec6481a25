"""Spectral clustering of units from their feature Gram matrix.

With cosine C, distance d(i,j)^2 = 2 - 2 C(i,j) and local scale s(i) = distance of i to its
`NEIGHBOUR`-th nearest (Zelnik-Manor and Perona 2004):

    A(i,j) = exp(-d(i,j)^2 / (s(i) s(j))),  A(i,i) = 0
    L      = I - D^-1/2 A D^-1/2                                  symmetric normalised Laplacian
    U      = eigenvectors of the k smallest eigenvalues
    labels = argmax_j |U Q|, Q the polar factor of the k pivot rows of U    (cluster_qr,
             Damle, Minden, Ying 2019: no seed, no restarts)

Rows of U are not scaled to length 1: the argmax does not depend on it, and with rows of equal
length the first pivot would be decided by rounding.

Exact duplicates (cosine above `CLONE`) are one node of the graph: they always share a cluster.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh, qr, svd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from onnx_scsp.types import BoolArray, FloatArray, IntArray, Partition

NEIGHBOUR = 7
CLONE = 1.0 - 1e-9
_EDGE = 1e-6
"""Affinities below this do not connect components."""


def cosine(gram: FloatArray) -> FloatArray:
    """Cosines from a Gram matrix; zero vectors have cosine 0 with everything.

    Args:
        gram: float64 (n, n).

    Returns:
        float64 (n, n) in [-1, 1].
    """
    size = np.sqrt(np.clip(np.diagonal(gram), 0.0, None))
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    return np.asarray(np.clip(gram * inverse[:, None] * inverse[None, :], -1.0, 1.0))


def affinity(cosines: FloatArray) -> FloatArray:
    """Self-tuning affinity with a zero diagonal.

    Args:
        cosines: float64 (n, n).

    Returns:
        float64 (n, n), symmetric, in [0, 1].
    """
    n = cosines.shape[0]
    squared = np.clip(2.0 - 2.0 * cosines, 0.0, None)
    np.fill_diagonal(squared, 0.0)
    place = min(NEIGHBOUR, n - 1)
    scale = np.sqrt(np.partition(squared, place, axis=1)[:, place])
    positive = scale[scale > 0]
    scale = np.where(scale > 0, scale, positive.min() if positive.size else 1.0)
    result = np.exp(-squared / (scale[:, None] * scale[None, :]))
    np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def spectrum(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues and eigenvectors of the symmetric normalised Laplacian.

    Args:
        weights: float64 (n, n) affinity.

    Returns:
        Eigenvalues (n,), ascending, and eigenvectors (n, n) as columns.
    """
    values, vectors = eigh(_laplacian(weights))
    return np.clip(values, 0.0, None), vectors


def eigenvalues(weights: FloatArray) -> FloatArray:
    """The eigenvalues of `spectrum` alone, in a fraction of the time.

    Args:
        weights: float64 (n, n) affinity.

    Returns:
        float64 (n,), ascending.
    """
    return np.asarray(np.clip(eigh(_laplacian(weights), eigvals_only=True), 0.0, None))


def _laplacian(weights: FloatArray) -> FloatArray:
    degree = weights.sum(axis=1)
    inverse = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    laplacian = np.eye(weights.shape[0]) - inverse[:, None] * weights * inverse[None, :]
    # an isolated node is a component of its own: eigenvalue 0, not 1
    lonely = degree <= 0
    laplacian[lonely, lonely] = 0.0
    return np.asarray(laplacian)


def clone_classes(cosines: FloatArray) -> IntArray:
    """Class of each unit under "is an exact duplicate of", shape (n,); zeros are one class."""
    is_zero = np.diagonal(cosines) <= 0.0
    return _components((cosines >= CLONE) | (is_zero[:, None] & is_zero[None, :]))[1]


def _components(adjacent: BoolArray) -> tuple[int, IntArray]:
    """Number of connected components, and the component of each node."""
    graph = csr_matrix(adjacent.astype(np.int8))
    count, labels = connected_components(graph, directed=False)
    return int(count), np.asarray(labels, np.int64)


def cluster_qr(vectors: FloatArray) -> IntArray:
    """Cluster labels from k orthonormal columns by one pivoted QR.

    Args:
        vectors: float64 (n, k).

    Returns:
        int (n,), labels 0..k-1 (some may be unused).
    """
    k = vectors.shape[1]
    pivots = qr(vectors.T, mode="r", pivoting=True)[1][:k]
    left, _, right = svd(vectors[pivots].T, full_matrices=False)
    return np.asarray(np.abs(vectors @ (left @ right)).argmax(axis=1), np.int64)


def spectral_clusters(gram: FloatArray, k: int) -> Partition:
    """Clusters units into (at most) k clusters.

    Args:
        gram: float64 (n, n) feature Gram matrix.
        k: Number of clusters, 1..n.

    Returns:
        Labels 0..k'-1 without gaps, k' <= k (fewer where there are fewer distinct units), the
        Laplacian's eigenvalues, and the number of connected components.
    """
    cosines = cosine(gram)
    classes = clone_classes(cosines)
    first = np.unique(classes, return_index=True)[1]
    inner, values, components = _distinct_clusters(cosines[np.ix_(first, first)], k)
    labels = np.unique(inner[classes], return_inverse=True)[1].astype(np.int64)
    return Partition(
        labels=labels, k=int(labels.max()) + 1, eigenvalues=values, components=components
    )


def _distinct_clusters(cosines: FloatArray, k: int) -> tuple[IntArray, FloatArray, int]:
    n = cosines.shape[0]
    if n == 1:
        return np.zeros(1, np.int64), np.zeros(1), 1
    weights = affinity(cosines)
    components = _components(weights > _EDGE)[0]
    values, vectors = spectrum(weights)
    if k >= n:
        return np.arange(n), values, components
    return cluster_qr(vectors[:, :k]), values, components
