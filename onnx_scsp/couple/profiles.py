"""Profiles: which units of a group are interchangeable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_scsp.types import IntArray, Role


def by_first_use(values: IntArray) -> IntArray:
    """Renumbers values by first occurrence."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def profiles(
    members: dict[tuple[str, int, Role], dict[str, IntArray]],
    activations: Mapping[str, IntArray],
    n_units: int,
) -> IntArray:
    """One number per unit: equal where two units occur equally often in every array."""
    arrays = [units for by_use in members.values() for units in by_use.values()]
    arrays += list(activations.values())
    profile = np.zeros(n_units, np.int64)
    seen: set[bytes] = set()
    for array in arrays:
        key = array.tobytes()
        if key in seen or not (array >= 0).any():
            continue
        seen.add(key)
        counts = np.bincount(array[array >= 0].reshape(-1), minlength=n_units)
        profile = np.unique(np.stack([profile, counts]), axis=1, return_inverse=True)[1].reshape(-1)
    return profile
