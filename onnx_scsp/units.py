"""What is known of comparable units, as arrays alone: weights, and what inputs show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_scsp.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one reader sees of some units, on sample inputs.

    Attributes:
        rows: int (m,), rows of the table that it sees, ascending.
        covariance: float64 (m, m), of the units' values there, averaged over kernel positions.
        reach: float64 (m,), squared size of the reader's slices, relative to the variance of the
            place where its outputs land.
        contributions: float64 (m, m), covariance of what the units add to the outputs, relative to
            the same.
    """

    rows: IntArray
    covariance: FloatArray
    reach: FloatArray
    contributions: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """What sample inputs show about the units of one table.

    Attributes:
        views: One for every reader.
        loss: float64 (n,), what the readers have lost, after their repair, when the unit goes in
            the order of backward elimination; larger for units that go later.
        ranks: float64 (n,), mean rank of the unit's feature maps, or None where nobody asked.
    """

    views: tuple[View, ...]
    loss: FloatArray
    ranks: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UnitTable:
    """Comparable units of one group (equal profile) as Gram matrices; no ONNX below this point.

    A Gram matrix holds all that clustering and merging need, at n x n instead of n x features.

    Attributes:
        group: The group's id.
        units: int (n,), the group's unit behind each row.
        features: float64 (n, n), Gram matrix of the per-member normalised features.
        signal: float64 (n, n), Gram matrix of the producers' slices with normalisation folded in
            and the bias as one more entry, not normalised.
        gain: float64 (n, n), entry (r, s): factor by which later per-channel filters scale r
            relative to s (least squares); ones where there are none.
        reader_energy: float64 (n,), squared size of each unit's reader slices.
        homogeneous: Whether a positive factor passes from makers to readers.
        norm_scale: float64 (n,), mean size of the scales of the BatchNormalizations that the unit
            passes, or None where there are none.
        importance: float64 (n,), scores given from outside, or None.
        activity: What sample inputs show, or None.
    """

    group: str
    units: IntArray
    features: FloatArray
    signal: FloatArray
    gain: FloatArray
    reader_energy: FloatArray
    homogeneous: bool
    norm_scale: FloatArray | None = None
    importance: FloatArray | None = None
    activity: Activity | None = None

    @property
    def n_units(self) -> int:
        """Number of rows."""
        return int(self.units.size)

    @property
    def energy(self) -> FloatArray:
        """float64 (n,): what each unit contributes to its readers, producer times reader."""
        return np.diagonal(self.signal) * self.reader_energy

    @property
    def dead(self) -> BoolArray:
        """Bool (n,): units whose producers are zero."""
        size = np.diagonal(self.signal)
        return size <= 1e-14 * max(float(size.max(initial=0.0)), 1e-300)
