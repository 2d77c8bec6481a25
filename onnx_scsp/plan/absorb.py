"""Who takes over whom: the survivor whose scaled signal is nearest, if it is near enough.

With the folded signal Gram matrix S and later per-channel gains g, removed unit r and kept unit s:

    cos(r, s)   = S(r, s) / sqrt(S(r, r) S(s, s))
    scale(r, s) = S(r, s) / S(s, s) g(r, s)     where a positive factor passes through
                = 1                              where it does not
    readers of s += scale * readers of r

The scale is the least-squares factor between the two producers, so that copies merge exactly
(scale 1), and multiples of a filter do before ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from onnx_scsp.partition import cosine
from onnx_scsp.plan.method import Pick
from onnx_scsp.types import FloatArray
from onnx_scsp.units import UnitTable

Absorption = tuple[dict[int, int], dict[int, float]]
Compensator = Callable[[UnitTable, Pick, float], Absorption]
"""Table, pick and smallest cosine -> removed unit to survivor, removed unit to scale."""


def absorb_nothing(table: UnitTable, pick: Pick, threshold: float) -> Absorption:
    """A pure selection: what goes is dropped."""
    del table, pick, threshold
    return {}, {}


def absorb_nearest(table: UnitTable, pick: Pick, threshold: float) -> Absorption:
    """Assigns removed units to survivors.

    Args:
        table: The units.
        pick: Which rows stay.
        threshold: Smallest cosine of the signals at which a unit is taken over.

    Returns:
        Removed unit -> survivor, and removed unit -> scale, in the group's unit numbers.
    """
    removed = np.setdiff1d(np.arange(table.n_units), pick.keep)
    size = np.diagonal(table.signal)
    likeness = np.minimum(cosine(table.signal), cosine(table.features))
    taken: dict[int, int] = {}
    scales: dict[int, float] = {}
    for row in removed[~table.dead[removed]]:
        candidates = pick.keep
        if pick.clusters is not None:
            candidates = candidates[pick.clusters[candidates] == pick.clusters[row]]
        candidates = candidates[size[candidates] > 0]
        if not candidates.size:
            continue
        survivor = int(candidates[np.argmax(likeness[row, candidates])])
        if likeness[row, survivor] < threshold:
            continue
        scale = _scale(table, size, int(row), survivor)
        if scale > 0:
            unit = int(table.units[row])
            taken[unit] = int(table.units[survivor])
            scales[unit] = scale
    return taken, scales


def absorb_cluster(table: UnitTable, pick: Pick, threshold: float) -> Absorption:
    """Every removed unit joins the nearest survivor of its cluster, however far: folding.

    Args:
        table: The units.
        pick: Which rows stay.
        threshold: Not used: a mean stands for its cluster as a whole.

    Returns:
        Removed unit -> survivor, and no scales.
    """
    del threshold
    removed = np.setdiff1d(np.arange(table.n_units), pick.keep)
    size = np.diagonal(table.features)
    taken: dict[int, int] = {}
    for row in removed[~table.dead[removed]]:
        candidates = pick.keep[~table.dead[pick.keep]]
        if pick.clusters is not None:
            candidates = candidates[pick.clusters[candidates] == pick.clusters[row]]
        if candidates.size:
            distance = size[candidates] - 2.0 * table.features[row, candidates]
            taken[int(table.units[row])] = int(table.units[candidates[np.argmin(distance)]])
    return taken, {}


def _scale(table: UnitTable, size: FloatArray, row: int, survivor: int) -> float:
    if not table.homogeneous:
        return 1.0
    ratio = float(table.signal[row, survivor] / size[survivor] * table.gain[row, survivor])
    # copies have a ratio of 1 up to rounding; say so exactly
    return 1.0 if abs(ratio - 1.0) < 1e-9 else ratio


COMPENSATORS: Mapping[str, Compensator] = MappingProxyType(
    {
        "merge": absorb_nearest,
        "none": absorb_nothing,
        # and then the means and deviations behind the cut are brought back
        "bn": absorb_nearest,
        # survivors become the means of their clusters afterwards
        "fold": absorb_cluster,
        # the plan only selects; the layers behind the cut are refitted afterwards
        "reconstruct": absorb_nothing,
        "gram": absorb_nothing,
    }
)
"""Compensators by name. Extend a copy: `COMPENSATORS | {"mine": my_compensator}`."""
