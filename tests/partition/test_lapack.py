"""The reduction to tridiagonal form against scipy's own call of the same routine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.linalg.lapack import dsytrd

from onnx_scsp.errors import InternalError
from onnx_scsp.partition.lapack import tridiagonalise


def symmetric(n: int, seed: int = 0) -> np.ndarray:
    square = np.random.default_rng(seed).standard_normal((n, n))
    return square + square.T


@pytest.mark.parametrize("n", [1, 2, 3, 65, 130])
def test_it_is_the_reduction_that_scipy_calls(n: int) -> None:
    matrix = symmetric(n)
    reduced, diagonal, beside, factors, _ = dsytrd(matrix.T, lower=1, lwork=64 * n)
    found = tridiagonalise(matrix)
    for ours, theirs in zip(found, (diagonal, beside, factors), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(np.tril(matrix.T), np.tril(reduced), atol=1e-12)


def test_the_tridiagonal_matrix_has_the_same_eigenvalues() -> None:
    matrix = symmetric(40)
    want = np.linalg.eigvalsh(matrix)
    diagonal, beside, _ = tridiagonalise(matrix)
    found = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    np.testing.assert_allclose(found, want, atol=1e-10)


def test_two_at_a_time_give_what_one_gives() -> None:
    alone = [tridiagonalise(symmetric(200, seed)) for seed in range(8)]
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda seed: tridiagonalise(symmetric(200, seed)), range(8)))
    for one, other in zip(alone, beside, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 2)), np.zeros((3, 3), np.float32), np.asfortranarray(np.ones((3, 3)))],
    ids=["not square", "single precision", "column by column"],
)
def test_what_lapack_would_misread_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(InternalError, match="square matrices of float64"):
        tridiagonalise(matrix)
