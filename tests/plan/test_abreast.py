"""Pieces of work side by side: results in order, errors where they belong."""

from __future__ import annotations

import threading

import pytest

from onnx_scsp.plan.abreast import abreast


def test_results_come_place_by_place_whatever_is_done_first() -> None:
    assert abreast(lambda place: place * 10, [1, 9, 5], lambda *_: None) == [0, 10, 20]


def test_two_are_under_way_at_a_time() -> None:
    both = threading.Barrier(2, timeout=20)
    abreast(lambda _: both.wait(), [1, 1], lambda *_: None)


def test_the_largest_is_begun_first() -> None:
    begun: list[int] = []
    turn = threading.Lock()

    def work(place: int) -> None:
        with turn:
            begun.append(place)

    abreast(work, [1, 2, 30, 4], lambda *_: None)
    assert begun.index(2) <= 1


def test_progress_ends_with_everything_done() -> None:
    told: list[tuple[int, int]] = []
    abreast(lambda _: None, [1, 1, 1], lambda *told_now: told.append(told_now))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_one_raises_is_raised() -> None:
    def work(place: int) -> int:
        return 1 // place

    with pytest.raises(ZeroDivisionError):
        abreast(work, [1, 2], lambda *_: None)


def test_nothing_to_do_is_done() -> None:
    assert abreast(lambda place: place, [], lambda *_: None) == []
