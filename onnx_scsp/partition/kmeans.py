"""k-means (scikit-learn) on features recovered from the Gram matrix."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from onnx_scsp.partition.spectral import clone_classes, cosine
from onnx_scsp.types import FloatArray, IntArray, Partition

_SEED = 0
_EQUAL = 1e-9
"""Squared distance of duplicates, relative to their squared length."""


def kmeans_clusters(gram: FloatArray, k: int) -> Partition:
    """Clusters units by k-means on the rows of C^(1/2), C the cosine matrix.

    Exact duplicates are one row, weighted by their number.

    Args:
        gram: float64 (n, n) feature Gram matrix.
        k: Number of clusters, 1..n.

    Returns:
        Labels without gaps, at most k; the eigenvalues are those of I - C / tr C, for the record.
    """
    cosines = cosine(gram)
    return _clusters(cosines, clone_classes(cosines), k)


def kmeans_rows(gram: FloatArray, k: int) -> Partition:
    """Clusters units by k-means on the features as long as they are (model folding).

    Exact duplicates are one row, weighted by their number.

    Args:
        gram: float64 (n, n) feature Gram matrix.
        k: Number of clusters, 1..n.

    Returns:
        As `kmeans_clusters`, for the Gram matrix.
    """
    size = np.diagonal(gram)
    squared = size[:, None] + size[None, :] - 2.0 * gram
    equal = squared <= _EQUAL * np.maximum(size[:, None], size[None, :])
    # rounding may say that a = b and b = c but not that a = c: the first equal one decides
    return _clusters(gram, np.argmax(equal, axis=1), k)


def _clusters(gram: FloatArray, classes: IntArray, k: int) -> Partition:
    values, vectors = eigh(gram)
    rows = vectors * np.sqrt(np.clip(values, 0.0, None))
    _, first, classes, counts = np.unique(
        classes, return_index=True, return_inverse=True, return_counts=True
    )
    from sklearn.cluster import KMeans  # a second to import, and only these clusterers need it

    means = KMeans(n_clusters=min(k, first.size), n_init=4, random_state=_SEED)
    found = means.fit_predict(rows[first], sample_weight=counts)
    labels = np.unique(found[classes], return_inverse=True)[1].astype(np.int64)
    spectrum = np.sort(1.0 - values / max(float(np.trace(gram)), 1e-300))
    return Partition(labels, int(labels.max()) + 1, spectrum, 1)
