"""The reduction of a symmetric matrix to a tridiagonal one, during which other threads run.

It takes most of the time of a clustering, and scipy.linalg.lapack holds the interpreter's lock
meanwhile. scipy.linalg.cython_lapack hands out the same routines as C functions, and ctypes lets go
of the lock.
"""

from __future__ import annotations

import ctypes

import numpy as np
from scipy.linalg import cython_lapack

from onnx_scsp.errors import InternalError
from onnx_scsp.types import FloatArray

_BLOCK = 64
"""Columns that LAPACK handles together."""


def tridiagonalise(matrix: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Q' A Q = T by Householder reflections (LAPACK's dsytrd).

    Args:
        matrix: float64 (n, n), C order, A. Its lower triangle is ignored; the Householder vectors
            of Q take the place of its upper one, above the superdiagonal, as rows.

    Returns:
        float64 (n,), the diagonal of T; (n - 1,), what stands beside it; (n - 1,), the reflections'
        factors.

    Raises:
        InternalError: The matrix is not as described, or LAPACK refuses it.
    """
    n = len(matrix)
    if matrix.dtype != np.float64 or not matrix.flags.c_contiguous or matrix.shape != (n, n):
        raise InternalError("tridiagonalise takes square matrices of float64 in C order")
    diagonal, beside, factors = np.empty(n), np.empty(max(n - 1, 0)), np.empty(max(n - 1, 0))
    work = np.empty(max(n, 1) * _BLOCK)
    info = ctypes.c_int(0)
    # LAPACK counts by columns: the rows above the diagonal are its columns below it
    _routine("dsytrd", 10)(
        ctypes.c_char_p(b"L"),
        ctypes.byref(ctypes.c_int(n)),
        _address(matrix),
        ctypes.byref(ctypes.c_int(max(n, 1))),
        _address(diagonal),
        _address(beside),
        _address(factors),
        _address(work),
        ctypes.byref(ctypes.c_int(work.size)),
        ctypes.byref(info),
    )
    if info.value:
        raise InternalError(f"LAPACK's dsytrd refuses its argument {-info.value}")
    return diagonal, beside, factors


def _address(array: FloatArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _routine(name: str, n_arguments: int) -> ctypes._FuncPointer:
    """A routine of LAPACK as a C function of pointers."""
    capsule = cython_lapack.__pyx_capi__[name]
    api = ctypes.pythonapi
    name_of, pointer_of = api.PyCapsule_GetName, api.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)
    return kind(pointer_of(capsule, name_of(capsule)))
