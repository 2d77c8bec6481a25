"""Independent pieces of work, two at a time.

Most of it is linear algebra of large matrices, during which other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_WORKERS = 2

T = TypeVar("T")


def abreast(
    work: Callable[[int], T], sizes: Sequence[int], tell: Callable[[int, int], None]
) -> list[T]:
    """Does the work of every place, the largest first: begun last, it would keep a thread waiting.

    Args:
        work: Place -> its result.
        sizes: How much each place is, roughly.
        tell: Called with (done, total).

    Returns:
        The results, place by place.
    """
    total = len(sizes)
    with ThreadPoolExecutor(_WORKERS) as pool:
        order = sorted(range(total), key=lambda place: -sizes[place])
        pending = {place: pool.submit(work, place) for place in order}
        results: list[T] = []
        for place in range(total):
            tell(place, total)
            results.append(pending.pop(place).result())
    tell(total, total)
    return results
