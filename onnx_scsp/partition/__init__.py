"""features -> clusters: spectral clustering and its baselines (numpy and scipy only)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from onnx_scsp.partition.kmeans import kmeans_clusters, kmeans_rows
from onnx_scsp.partition.spectral import (
    Spectrum,
    affinity,
    clone_classes,
    clusters_of,
    cosine,
    spectral_clusters,
    spectrum,
)
from onnx_scsp.types import FloatArray, Partition

__all__ = [
    "CLUSTERERS",
    "Clusterer",
    "Spectrum",
    "affinity",
    "clone_classes",
    "clusters_of",
    "cosine",
    "kmeans_clusters",
    "kmeans_rows",
    "spectral_clusters",
    "spectrum",
]

Clusterer = Callable[[FloatArray, int], Partition]
"""Feature Gram matrix (n, n) and k -> at most k clusters."""

CLUSTERERS: Mapping[str, Clusterer] = MappingProxyType(
    {"spectral": spectral_clusters, "kmeans": kmeans_clusters}
)
"""Clusterers by name. Extend a copy: `CLUSTERERS | {"mine": my_clusterer}`."""
