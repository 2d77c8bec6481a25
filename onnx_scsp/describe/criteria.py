"""The table of criteria: how much each unit is worth, larger is more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from onnx_scsp.types import FloatArray, UnitTable

Criterion = Callable[[UnitTable], FloatArray]
"""Unit table -> float64 (n,)."""


def energy(table: UnitTable) -> FloatArray:
    """Squared norm of the producers times squared norm of the readers."""
    return table.energy


def magnitude(table: UnitTable) -> FloatArray:
    """Squared norm of the producers alone, normalisation folded in."""
    return np.diagonal(table.signal).astype(np.float64)


CRITERIA: Mapping[str, Criterion] = MappingProxyType({"energy": energy, "l2": magnitude})
"""Criteria by name. Extend a copy: `CRITERIA | {"mine": my_criterion}`."""
