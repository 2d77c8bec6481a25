"""Times several things in turn, so that whatever disturbs the machine disturbs all of them alike.

Every round runs each of them once. Within n rounds (n things) each takes every place once, and
which place when is drawn at random: none always runs first, or always after the same other one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_scsp.types import FloatArray, IntArray

_WINDOW = 5
_STEADY = 0.02
_MOST_WARM_UP, _MOST_WARM_UP_S = 50, 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """Times of interleaved runs.

    Attributes:
        seconds: float64 (rounds, things).
        warm_up: Rounds before those.
        steady: Whether the times had settled; None where the number of those was given.
    """

    seconds: FloatArray
    warm_up: int
    steady: bool | None


def orders(things: int, seed: int) -> Iterator[IntArray]:
    """Who runs when, round by round, without end.

    Args:
        things: How many there are.
        seed: Of the order.

    Yields:
        int (things,): a permutation.
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(things)
        for shift in rng.permutation(things):
            yield np.roll(order, int(shift))


def interleave(
    runs: Sequence[Callable[[], object]],
    rounds: int,
    *,
    warm_up: int | None = None,
    seed: int = 0,
    clock: Callable[[], float] | None = None,
) -> Rounds:
    """Times functions in turn.

    Args:
        runs: What to time.
        rounds: Rounds that count.
        warm_up: Rounds before those; where None, as many as it takes until, for each function, the
            medians of the last and of the previous 5 rounds differ by at most 2 %; no more than
            50, and none beyond the first 10 after 30 seconds.
        seed: Of the order.
        clock: Seconds; `time.perf_counter` where None.

    Returns:
        The times.
    """
    tick = time.perf_counter if clock is None else clock
    turns = orders(len(runs), seed)

    def one_round() -> FloatArray:
        seconds = np.zeros(len(runs))
        for place in next(turns):
            start = tick()
            runs[place]()
            seconds[place] = tick() - start
        return seconds

    steady = None
    before: list[FloatArray] = []
    if warm_up is None:
        steady = False
        until = tick() + _MOST_WARM_UP_S
        while not steady and len(before) < (_MOST_WARM_UP if tick() < until else 2 * _WINDOW):
            before.append(one_round())
            steady = _settled(before)
    else:
        before = [one_round() for _ in range(warm_up)]
    return Rounds(np.array([one_round() for _ in range(rounds)]), len(before), steady)


def _settled(before: list[FloatArray]) -> bool:
    if len(before) < 2 * _WINDOW:
        return False
    last = np.median(before[-_WINDOW:], axis=0)
    previous = np.median(before[-2 * _WINDOW : -_WINDOW], axis=0)
    return bool((np.abs(last - previous) <= _STEADY * previous).all())
