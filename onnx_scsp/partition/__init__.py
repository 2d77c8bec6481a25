"""features -> clusters: spectral clustering and its baselines (numpy and scipy only)."""

from __future__ import annotations

from onnx_scsp.partition.spectral import affinity, cosine, spectral_clusters, spectrum

__all__ = ["affinity", "cosine", "spectral_clusters", "spectrum"]
