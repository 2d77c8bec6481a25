"""Ridge regression from accumulated products (numpy only).

With rows r of the design matrix, a 1 appended for the bias, and targets t,

    gram = sum r r^T      cross = sum r t^T      power = sum t^2

the fit W = argmin sum |t - W^T r|^2 + l |W - W0|^2 solves (gram + l I') W = cross + l I' W0; I'
leaves the bias alone, and l = share x mean diagonal of gram makes `share` free of scale.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.linalg.blas import dsyrk

from onnx_scsp.types import FloatArray

SHARES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Ridge strengths that are tried on held-out rows."""

_WIDE = 256
"""From so many inputs on the time goes into the products, not into calling for them."""
_ROUNDING = 1e-12
"""Errors below this, relative to the targets, are what the difference of large sums leaves."""
_SMALL = 64
"""Systems of up to so many unknowns are solved many at a time."""
_TOGETHER = 1 << 22
"""Elements of the matrices that are solved at a time."""


@dataclass(slots=True, eq=False)
class Products:
    """Sums over rows, for all groups of one layer.

    Attributes:
        lower: float64 (groups, d + 1, d + 1): the Gram matrices, below and on the diagonal.
        cross: float64 (groups, d + 1, outputs).
        power: float64 (groups, outputs).
        total: float64 (groups, outputs), sum of the targets.
        rows: Number of rows.
        is_whole: Whether the Gram matrices are filled above the diagonal, too.
    """

    lower: FloatArray
    cross: FloatArray
    power: FloatArray
    total: FloatArray
    rows: int = 0
    is_whole: bool = False

    @classmethod
    def zeros(cls, groups: int, d: int, outputs: int) -> Products:
        """Sums over no rows."""
        return cls(
            np.zeros((groups, d + 1, d + 1)),
            np.zeros((groups, d + 1, outputs)),
            np.zeros((groups, outputs)),
            np.zeros((groups, outputs)),
        )

    def add(self, rows: FloatArray, targets: FloatArray) -> None:
        """Adds rows (groups, n, d) with targets (groups, n, outputs), but for infinite ones."""
        finite = np.isfinite(rows).all(axis=(0, 2)) & np.isfinite(targets).all(axis=(0, 2))
        if not finite.all():
            rows, targets = rows[:, finite], targets[:, finite]
        self.is_whole = False
        ones = np.ones((*rows.shape[:2], 1))
        full = np.concatenate([rows, ones], axis=2)
        transposed = full.transpose(0, 2, 1)
        if full.shape[2] < _WIDE:
            self.lower += transposed @ full
        else:
            for group, matrix in enumerate(transposed):
                # in place, and one half of the products; the transpose of C order is Fortran order
                dsyrk(1.0, matrix, beta=1.0, c=self.lower[group].T, overwrite_c=1)
        self.cross += transposed @ targets
        self.power += np.einsum("gno,gno->go", targets, targets)
        self.total += targets.sum(axis=1)
        self.rows += rows.shape[1]

    def add_samples(self, rows: FloatArray, targets: FloatArray) -> None:
        """Adds rows (groups, samples, positions, d) with their targets."""
        groups, samples, positions, d = rows.shape
        if samples * positions:
            self.add(
                rows.reshape(groups, samples * positions, d),
                targets.reshape(groups, samples * positions, targets.shape[3]),
            )

    def grams(self) -> FloatArray:
        """All Gram matrices, float64 (groups, d + 1, d + 1); not to be written to."""
        if not self.is_whole:
            for matrix in self.lower:
                matrix[:] = np.tril(matrix) + np.tril(matrix, -1).T
            self.is_whole = True
        return self.lower

    def gram(self, group: int) -> FloatArray:
        """One group's Gram matrix, float64 (d + 1, d + 1); not to be written to."""
        return np.asarray(self.grams()[group])

    def error(self, weight: FloatArray) -> float:
        """Squared error of W (groups, d + 1, outputs), summed over rows and outputs."""
        power = float(self.power.sum())
        error = power + float(np.vdot(weight, self.grams() @ weight - 2.0 * self.cross))
        return error if error > _ROUNDING * power else 0.0

    def moments(self, group: int) -> tuple[FloatArray, FloatArray]:
        """Covariance (d, d) and mean (d,) of a group's inputs."""
        rows = max(self.rows, 1)
        gram = self.gram(group)[:-1]
        mean = gram[:, -1] / rows
        covariance = gram[:, :-1] / rows
        covariance -= np.outer(mean, mean)
        return covariance, mean

    @property
    def variance(self) -> float:
        """Sum over outputs of the targets' squared distance from their means."""
        return float((self.power - self.total**2 / max(self.rows, 1)).sum())


def fit(products: Products, start: FloatArray, share: float, *, bias: bool = True) -> FloatArray:
    """Solves for W (groups, d + 1, outputs).

    Args:
        products: Sums over the training rows.
        start: W0, the weights as they are; the ridge pulls towards them.
        share: Ridge strength, relative to the mean diagonal of the Gram matrix.
        bias: Whether the bias may move.

    Returns:
        The fitted weights, the bias in the last row.
    """
    result = start.copy()
    d = start.shape[1] - 1
    if d == 0 and not bias:
        return result
    for groups in _chunks(len(start), d + 1):
        left, first = products.grams()[groups].copy(), start[groups]
        ridge = np.stack([ridge_of(gram, share) for gram in left])
        right = products.cross[groups] + ridge[:, :, None] * first
        place = np.arange(d + 1)
        left[:, place, place] += ridge
        if bias:
            result[groups] = _solve(left, right)
        else:
            right = right[:, :d] - left[:, :d, d:] @ first[:, d:]
            result[groups, :d] = _solve(left[:, :d, :d], right)
    return result


def _chunks(groups: int, size: int) -> list[slice]:
    """Parts of so many matrices that are small enough to be solved together."""
    step = max(1, _TOGETHER // size**2)
    return [slice(first, first + step) for first in range(0, groups, step)]


def ridge_of(gram: FloatArray, share: float) -> FloatArray:
    """Diagonal of the ridge, float64 (d + 1,): nothing for the bias."""
    d = len(gram) - 1
    ridge: FloatArray = np.zeros(d + 1)
    ridge[:d] = max(share * float(np.trace(gram[:d, :d])) / max(d, 1), 1e-30)
    return ridge


def _solve(left: FloatArray, right: FloatArray) -> FloatArray:
    """Solves left W = right, symmetric, with rows and columns brought to one scale first."""
    diagonal = np.diagonal(left, axis1=1, axis2=2)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-300))[:, :, None]
    left, right = left * scale * scale.transpose(0, 2, 1), right * scale
    if len(left) > 1 and left.shape[1] <= _SMALL:
        return np.asarray(_solved_together(left, right) * scale)
    return np.asarray(np.stack([_solved(*pair) for pair in zip(left, right, strict=True)]) * scale)


def _solved(left: FloatArray, right: FloatArray) -> FloatArray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
            return np.asarray(scipy.linalg.solve(left, right, assume_a="pos"))
    except (scipy.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
        return np.asarray(np.linalg.lstsq(left, right, rcond=None)[0])


def _solved_together(left: FloatArray, right: FloatArray) -> FloatArray:
    """Many small systems at once; where one is singular, its smallest solution."""
    values, vectors = np.linalg.eigh(left)
    least = np.finfo(np.float64).eps * left.shape[1] * values[:, -1:]
    inverse = np.where(values > least, 1.0 / np.where(values > least, values, 1.0), 0.0)
    turned = vectors.transpose(0, 2, 1) @ right
    return np.asarray(vectors @ (inverse[:, :, None] * turned))
