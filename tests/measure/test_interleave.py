"""Order, warm-up and counting of interleaved rounds, on a clock that the runs advance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest

from onnx_scsp.measure.interleave import interleave, orders


class Machine:
    """Things that take as long as they are told: `times(thing, call)` seconds."""

    def __init__(self, things: int, times: Callable[[int, int], float]) -> None:
        self.now = 0.0
        self.order: list[int] = []
        self._calls = [0] * things
        self._times = times
        self.runs = [lambda thing=thing: self._run(thing) for thing in range(things)]

    def clock(self) -> float:
        return self.now

    def _run(self, thing: int) -> None:
        self.order.append(thing)
        self.now += self._times(thing, self._calls[thing])
        self._calls[thing] += 1


def test_every_run_is_timed_in_its_own_column() -> None:
    machine = Machine(3, lambda thing, call: 10.0 * thing + call + 1)
    found = interleave(machine.runs, 4, warm_up=0, clock=machine.clock)
    assert found.seconds.tolist() == [[1, 11, 21], [2, 12, 22], [3, 13, 23], [4, 14, 24]]


def test_the_same_seed_gives_the_same_order_and_another_one_does_not() -> None:
    first, again, other = ([o.tolist() for o in islice(orders(4, s), 12)] for s in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("things", [1, 2, 3, 8])
def test_everything_takes_every_place_equally_often(things: int) -> None:
    found = np.array(list(islice(orders(things, 0), 5 * things)))
    for place in range(things):
        assert np.bincount(found[:, place], minlength=things).tolist() == [5] * things


def test_what_runs_first_follows_no_fixed_turn() -> None:
    firsts = [int(order[0]) for order in islice(orders(3, 0), 30)]
    assert len({tuple(firsts[at : at + 3]) for at in range(0, 30, 3)}) > 2


def test_a_given_warm_up_is_kept_and_nothing_is_said_of_steadiness() -> None:
    machine = Machine(2, lambda thing, call: 1.0)
    found = interleave(machine.runs, 5, warm_up=3, clock=machine.clock)
    assert (found.warm_up, found.steady) == (3, None)
    assert len(machine.order) == 2 * 8


def test_steady_times_end_the_warm_up_as_soon_as_that_shows() -> None:
    machine = Machine(2, lambda thing, call: 1.0)
    found = interleave(machine.runs, 5, clock=machine.clock)
    assert (found.warm_up, found.steady) == (10, True)


def test_the_warm_up_goes_on_while_one_of_them_still_gets_faster() -> None:
    machine = Machine(2, lambda thing, call: 1e-3 if thing else 1e-3 * (1.0 + 0.8**call))
    found = interleave(machine.runs, 5, clock=machine.clock)
    assert found.steady
    assert 15 < found.warm_up < 50
    assert found.seconds[:, 0] == pytest.approx(np.full(5, 1e-3), rel=0.05)


def test_times_that_never_settle_are_counted_all_the_same_and_said_to_be_unsteady() -> None:
    machine = Machine(1, lambda thing, call: 1e-3 * 1.1**call)
    found = interleave(machine.runs, 5, clock=machine.clock)
    assert (found.warm_up, found.steady) == (50, False)
    assert found.seconds.shape == (5, 1)


def test_slow_things_that_do_not_settle_warm_up_for_half_a_minute() -> None:
    machine = Machine(1, lambda thing, call: 4.0 * 1.1**call)
    found = interleave(machine.runs, 5, clock=machine.clock)
    assert (found.warm_up, found.steady) == (10, False)
    quicker = Machine(1, lambda thing, call: 1.05**call)
    assert 10 < interleave(quicker.runs, 5, clock=quicker.clock).warm_up < 30
