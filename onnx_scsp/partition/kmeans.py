"""Baseline: k-means (scikit-learn) on unit-length features recovered from the Gram matrix."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from onnx_scsp.partition.spectral import cosine
from onnx_scsp.types import FloatArray, Partition

_SEED = 0


def kmeans_clusters(gram: FloatArray, k: int) -> Partition:
    """Clusters units by k-means on the rows of C^(1/2), C the cosine matrix.

    Args:
        gram: float64 (n, n) feature Gram matrix.
        k: Number of clusters, 1..n.

    Returns:
        Labels without gaps; the eigenvalues are those of I - C / n, for the record.
    """
    from sklearn.cluster import KMeans  # a second to import, and only this clusterer needs it

    cosines = cosine(gram)
    values, vectors = eigh(cosines)
    rows = vectors * np.sqrt(np.clip(values, 0.0, None))
    distinct = np.unique(np.round(rows, 9), axis=0).shape[0]
    found = KMeans(n_clusters=min(k, distinct), n_init=4, random_state=_SEED).fit_predict(rows)
    labels = np.unique(found, return_inverse=True)[1].astype(np.int64)
    spectrum = np.sort(1.0 - values / max(gram.shape[0], 1))
    return Partition(labels, int(labels.max()) + 1, spectrum, 1)
