"""Unit tables made by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_scsp.describe import CRITERIA
from onnx_scsp.partition import CLUSTERERS
from onnx_scsp.plan import METHODS, Method, Tools
from onnx_scsp.units import UnitTable

Array = NDArray[np.float64]


def table(
    rows: Array,
    readers: Array | None = None,
    gain: Array | None = None,
    *,
    homogeneous: bool = True,
    first_unit: int = 0,
) -> UnitTable:
    """The table of units whose only producer has the given filters."""
    gram = rows @ rows.T
    n = rows.shape[0]
    return UnitTable(
        group="g00",
        units=np.arange(first_unit, first_unit + n),
        features=gram / max(float(np.diagonal(gram).mean()), 1e-300),
        signal=gram,
        gain=np.ones((n, n)) if gain is None else gain,
        reader_energy=np.ones(n) if readers is None else readers,
        homogeneous=homogeneous,
        norm_scale=np.sqrt(np.diagonal(gram)),
        importance=np.diagonal(gram).copy(),
    )


def directions(count: int, dim: int = 24, seed: int = 0) -> Array:
    """Rows at right angles to each other."""
    rng = np.random.default_rng(seed)
    return np.asarray(np.linalg.qr(rng.standard_normal((dim, count)))[0].T)


def blobs(sizes: tuple[int, ...], noise: float = 0.01, seed: int = 0) -> tuple[Array, Array]:
    """Rows around one direction per cluster, and the cluster of each."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = directions(len(sizes), seed=seed)[labels]
    return rows + noise * np.random.default_rng(seed).standard_normal(rows.shape), labels


def tools(seed: int = 0, clusterer: str = "spectral", criterion: str = "energy") -> Tools:
    """What a method is handed."""
    return Tools(CLUSTERERS[clusterer], CRITERIA[criterion], np.random.default_rng(seed))


def kept(method: str | Method, units: UnitTable, k: int) -> list[int]:
    """Rows that a method keeps."""
    chosen = METHODS[method] if isinstance(method, str) else method
    return chosen.pick(units, k, tools()).keep.tolist()
