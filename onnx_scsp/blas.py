"""One thread per linear-algebra call.

Sums that are split among threads round differently, so results would depend on the number of cores.
And most problems here are small: on a busy machine, threads that wait for each other cost several
times what they save.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limits BLAS to one thread while it is open; also a decorator."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
