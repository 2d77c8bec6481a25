"""BLAS runs in one thread while the package works, and as before afterwards."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from onnx_scsp.blas import one_blas_thread


def threads() -> set[int]:
    np.linalg.inv(np.eye(2))  # loads the library
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == before


def test_it_decorates() -> None:
    @one_blas_thread()
    def inside() -> set[int]:
        return threads()

    with threadpool_limits(limits=2, user_api="blas"):
        assert inside() == inside() == {1}
