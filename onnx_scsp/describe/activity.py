"""What sample inputs show about units, over all their readers (numpy only).

With G the covariance of the units' values at a reader and q the squared size of its slices, the
best linear rebuilding of unit i by the others leaves 1 / (G^-1)(i, i) of its variance, for all i
from one inverse (the biorthogonal system of REAP; Kamma and Wada 2021).
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.types import FloatArray
from onnx_scsp.units import Activity, View

DAMPING = 1e-3
"""Added to the diagonal of a covariance, relative to its mean."""


def contributions(activity: Activity, n_units: int) -> FloatArray:
    """Covariance of what units contribute, summed over the readers.

    Args:
        activity: What inputs show.
        n_units: Rows of the table.

    Returns:
        float64 (n, n).
    """
    total = np.zeros((n_units, n_units))
    for view in activity.views:
        total[np.ix_(view.rows, view.rows)] += view.contributions
    return total


def rebuilding_errors(activity: Activity, n_units: int) -> FloatArray:
    """What is lost with each unit when the others rebuild it, the best rebuilt going first.

    The unit of smallest sum over readers of q(i) / (G^-1)(i, i) goes; then the inverses are those
    of the units that stay. Errors grow on the way, since fewer are left to rebuild the next.

    Args:
        activity: What inputs show.
        n_units: Rows of the table.

    Returns:
        float64 (n,), error of each unit at its turn.
    """
    systems = [_System(view) for view in activity.views]
    worth = np.zeros(n_units)
    left = np.ones(n_units, bool)
    for _ in range(n_units):
        errors = np.zeros(n_units)
        for system in systems:
            errors[system.rows] += system.errors
        errors[~left] = np.inf
        unit = int(np.argmin(errors))
        worth[unit] = errors[unit]
        left[unit] = False
        for system in systems:
            system.remove(unit)
    return np.maximum(worth, 0.0)


class _System:
    """One reader's units on the way down."""

    def __init__(self, view: View) -> None:
        size = len(view.rows)
        damping = DAMPING * float(np.trace(view.covariance)) / size
        self.rows = view.rows
        self._inverse = np.linalg.inv(view.covariance + max(damping, 1e-12) * np.eye(size))
        self._reach = view.reach
        self._place = {int(row): place for place, row in enumerate(view.rows)}

    @property
    def errors(self) -> FloatArray:
        """float64 (rows,): what each unit would lose now."""
        return np.asarray(self._reach / np.diagonal(self._inverse))

    def remove(self, row: int) -> None:
        """Takes one unit out of the inverse."""
        place = self._place.get(row)
        if place is None:
            return
        column = self._inverse[:, place].copy()
        self._inverse -= np.outer(column, column) / column[place]
        self._inverse[place, :] = self._inverse[:, place] = 0.0
        self._inverse[place, place] = 1.0
