"""Baseline: k-means (scikit-learn) on unit-length features recovered from the Gram matrix."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from onnx_scsp.partition.spectral import clone_classes, cosine
from onnx_scsp.types import FloatArray, Partition

_SEED = 0


def kmeans_clusters(gram: FloatArray, k: int) -> Partition:
    """Clusters units by k-means on the rows of C^(1/2), C the cosine matrix.

    Exact duplicates are one row, weighted by their number.

    Args:
        gram: float64 (n, n) feature Gram matrix.
        k: Number of clusters, 1..n.

    Returns:
        Labels without gaps, at most k; the eigenvalues are those of I - C / n, for the record.
    """
    from sklearn.cluster import KMeans  # a second to import, and only this clusterer needs it

    cosines = cosine(gram)
    values, vectors = eigh(cosines)
    rows = vectors * np.sqrt(np.clip(values, 0.0, None))
    classes = clone_classes(cosines)
    _, first, counts = np.unique(classes, return_index=True, return_counts=True)
    means = KMeans(n_clusters=min(k, first.size), n_init=4, random_state=_SEED)
    found = means.fit_predict(rows[first], sample_weight=counts)
    labels = np.unique(found[classes], return_inverse=True)[1].astype(np.int64)
    spectrum = np.sort(1.0 - values / max(gram.shape[0], 1))
    return Partition(labels, int(labels.max()) + 1, spectrum, 1)
