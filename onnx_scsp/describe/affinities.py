"""The table of affinities: the Gram matrix by which units are alike, for clusterers and merging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from onnx_scsp.describe.activity import contributions
from onnx_scsp.types import FloatArray
from onnx_scsp.units import UnitTable

Affinity = Callable[[UnitTable], FloatArray]
"""Unit table -> float64 (n, n) Gram matrix."""


def weight_affinity(table: UnitTable) -> FloatArray:
    """Gram matrix of the filters: alike is what computes alike."""
    return table.features


def functional_affinity(table: UnitTable) -> FloatArray:
    """Covariance of what units contribute to their readers: alike is what is read alike."""
    if table.activity is None:
        return table.features
    return contributions(table.activity, table.n_units)


AFFINITIES: Mapping[str, Affinity] = MappingProxyType(
    {"weights": weight_affinity, "functional": functional_affinity}
)
"""Affinities by name. Extend a copy: `AFFINITIES | {"mine": my_affinity}`."""
