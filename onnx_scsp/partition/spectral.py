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

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh_tridiagonal, qr, svd
from scipy.linalg.lapack import dormqr

from onnx_scsp.partition.lapack import tridiagonalise
from onnx_scsp.types import BoolArray, FloatArray, IntArray, Partition

NEIGHBOUR = 7
CLONE = 1.0 - 1e-9
_BLOCK = 64
"""Columns that LAPACK handles together."""
_ROWS = 64
"""Rows of a square that are worked on at a time."""
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
    cosines = gram * inverse[:, None]
    cosines *= inverse[None, :]
    return np.asarray(np.clip(cosines, -1.0, 1.0, out=cosines))


def affinity(cosines: FloatArray) -> FloatArray:
    """Self-tuning affinity with a zero diagonal.

    Args:
        cosines: float64 (n, n).

    Returns:
        float64 (n, n), symmetric, in [0, 1].
    """
    n = cosines.shape[0]
    result = np.empty((n, n))
    # by blocks of rows: for wide groups the memory of a second square takes longer than its numbers
    blocks = [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
    nearest = np.empty(n)
    place = min(NEIGHBOUR, n - 1)
    for rows in blocks:
        squared = np.subtract(2.0, 2.0 * cosines[rows], out=result[rows])
        np.clip(squared, 0.0, None, out=squared)
        own = np.arange(len(squared))
        squared[own, rows.start + own] = 0.0
        nearest[rows] = np.partition(squared, place, axis=1)[:, place]
    scale = np.sqrt(nearest)
    positive = scale[scale > 0]
    scale = np.where(scale > 0, scale, positive.min() if positive.size else 1.0)
    for rows in blocks:
        block = np.negative(result[rows], out=result[rows])
        block /= scale[rows, None] * scale[None, :]
        np.exp(block, out=block)
    np.fill_diagonal(result, 0.0)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """A Laplacian L = Q T Q', T tridiagonal: all its eigenvalues, and as many vectors as are asked.

    The reduction to T takes most of the time, all eigenvalues of T hardly any, and every vector
    some: who chooses k by the eigenvalues pays for the reduction once.

    Attributes:
        values: float64 (n,), eigenvalues, ascending.
        reduced: float64 (n, n), the Householder vectors of Q below the subdiagonal.
        factors: float64 (n - 1,), their factors.
        diagonal: float64 (n,), of T.
        beside: float64 (n - 1,), beside the diagonal of T.
        components: Number of connected components of the graph.
    """

    values: FloatArray
    reduced: FloatArray
    factors: FloatArray
    diagonal: FloatArray
    beside: FloatArray
    components: int

    def vectors(self, k: int) -> FloatArray:
        """Eigenvectors of the k smallest eigenvalues, float64 (n, k), as columns."""
        _, inner = eigh_tridiagonal(
            self.diagonal,
            self.beside,
            select="i",
            select_range=(0, k - 1),
            lapack_driver="stemr",
        )
        if self.factors.size:
            # Q leaves the first row alone
            house = np.asfortranarray(self.reduced[1:, :-1])
            rows = np.asfortranarray(inner[1:])
            inner[1:] = dormqr("L", "N", house, self.factors, rows, lwork=_BLOCK * k)[0]
        return np.asarray(inner)


def spectrum(weights: FloatArray, *, overwrite: bool = False) -> Spectrum:
    """The spectrum of the symmetric normalised Laplacian.

    Args:
        weights: float64 (n, n) affinity.
        overwrite: Whether nobody needs the affinity any more.

    Returns:
        Its eigenvalues, and what its eigenvectors are made from.
    """
    count = _components(weights > _EDGE)[0]
    laplacian = np.asarray_chkfinite(_laplacian(weights, weights if overwrite else None))
    diagonal, beside, factors = tridiagonalise(laplacian)
    values = eigh_tridiagonal(diagonal, beside, eigvals_only=True, lapack_driver="sterf")
    return Spectrum(np.clip(values, 0.0, None), laplacian.T, factors, diagonal, beside, count)


def _laplacian(weights: FloatArray, out: FloatArray | None = None) -> FloatArray:
    degree = weights.sum(axis=1)
    inverse = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    laplacian = np.multiply(inverse[:, None], weights, out=out)
    laplacian *= inverse[None, :]
    np.negative(laplacian, out=laplacian)
    np.fill_diagonal(laplacian, 1.0 + np.diagonal(laplacian))
    # an isolated node is a component of its own: eigenvalue 0, not 1
    lonely = degree <= 0
    laplacian[lonely, lonely] = 0.0
    return np.asarray(laplacian)


def clone_classes(cosines: FloatArray) -> IntArray:
    """Class of each unit under "is an exact duplicate of", shape (n,); zeros are one class."""
    is_zero = np.diagonal(cosines) <= 0.0
    return _components((cosines >= CLONE) | (is_zero[:, None] & is_zero[None, :]))[1]


def _components(adjacent: BoolArray) -> tuple[int, IntArray]:
    """Number of connected components, and the component of each node, by first node."""
    joined = adjacent | adjacent.T
    np.fill_diagonal(joined, True)
    lonely = joined.sum(axis=1) == 1
    first = np.arange(len(joined), dtype=np.int64)
    seen = lonely.copy()
    for seed in np.flatnonzero(~lonely):
        front = np.zeros(len(joined), bool)
        front[seed] = not seen[seed]
        while front.any():
            first[front], seen[front] = seed, True
            front = joined[front].any(axis=0) & ~seen
    labels = np.unique(first, return_inverse=True)[1].astype(np.int64)
    return int(labels.max(initial=-1)) + 1, labels


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
    if first.size == 1:
        return Partition(np.zeros(classes.size, np.int64), 1, np.zeros(1), 1)
    if first.size < classes.size:
        cosines = cosines[np.ix_(first, first)]
    part = clusters_of(spectrum(affinity(cosines), overwrite=True), k)
    labels = np.unique(part.labels[classes], return_inverse=True)[1].astype(np.int64)
    return replace(part, labels=labels, k=int(labels.max()) + 1)


def clusters_of(found: Spectrum, k: int) -> Partition:
    """Clusters units, no two of them duplicates, by the spectrum of their affinity.

    Args:
        found: The spectrum.
        k: Number of clusters, 1..n.

    Returns:
        As `spectral_clusters`.
    """
    n = found.values.size
    labels = np.arange(n) if k >= n else cluster_qr(found.vectors(k))
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return Partition(labels, int(labels.max()) + 1, found.values, found.components)
