"""The accuracy bench's own arithmetic; nothing here needs torch or the packages."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.accuracy

from tools.accuracy.metrics import (  # noqa: E402
    character_accuracy,
    edit_distance,
    hmean,
    matches,
    overlaps,
    share,
)
from tools.accuracy.search import OutOfReachError, bisect  # noqa: E402


def boxes(*rows):
    return np.array(rows, np.float64).reshape(-1, 4)


def test_share_counts_right_answers():
    assert share([1, 2, 3, 4], [1, 2, 0, 0]) == 50.0
    assert share(["a"], ["a"]) == 100.0


@pytest.mark.parametrize(("answers", "truths"), [([1], [1, 2]), ([], [])])
def test_share_of_nothing_or_of_other_questions_is_refused(answers, truths):
    with pytest.raises(ValueError, match="answers to"):
        share(answers, truths)


@pytest.mark.parametrize(
    ("found", "truth", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("same", "same", 0),
        ("ab", "ba", 2),
    ],
)
def test_edit_distance(found, truth, distance):
    assert edit_distance(found, truth) == distance
    assert edit_distance(truth, found) == distance


def test_character_accuracy_weighs_letters_not_texts():
    # one error in ten letters, though half of the texts are wrong
    assert character_accuracy(["abcdefgh", "xz"], ["abcdefgh", "xy"]) == pytest.approx(90.0)


def test_character_accuracy_never_falls_below_zero():
    assert character_accuracy(["much too long"], ["a"]) == 0.0


def test_character_accuracy_of_no_text_is_refused():
    with pytest.raises(ValueError, match="no text"):
        character_accuracy([""], [""])


def test_overlap_of_known_boxes():
    a = boxes([0, 0, 2, 2], [10, 10, 11, 11])
    b = boxes([1, 0, 3, 2], [0, 0, 2, 2])
    assert overlaps(a, b) == pytest.approx(np.array([[1 / 3, 1.0], [0.0, 0.0]]))


def test_overlap_of_empty_boxes_is_zero():
    assert overlaps(boxes([0, 0, 0, 0]), boxes([0, 0, 0, 0]))[0, 0] == 0.0


def test_each_box_matches_once():
    truth = boxes([0, 0, 10, 10])
    assert matches(boxes([0, 0, 10, 10], [0, 0, 10, 9]), truth) == 1
    assert matches(boxes(), truth) == 0


def test_hmean_of_known_counts():
    truth = [boxes([0, 0, 10, 10], [20, 0, 30, 10]), boxes([0, 0, 5, 5])]
    found = [boxes([0, 0, 10, 9], [100, 100, 110, 110]), boxes()]
    # one hit; precision 1/2, recall 1/3
    assert hmean(found, truth) == pytest.approx(100 * 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_hmean_of_perfect_and_of_no_boxes():
    page = boxes([0, 0, 10, 10])
    assert hmean([page], [page]) == 100.0
    assert hmean([boxes()], [boxes()]) == 0.0


def test_an_overlap_below_the_bound_is_no_hit():
    assert hmean([boxes([0, 0, 10, 4.9])], [boxes([0, 0, 10, 10])]) == 0.0
    assert hmean([boxes([0, 0, 10, 5])], [boxes([0, 0, 10, 10])]) == 100.0


def test_bisection_meets_a_smooth_budget_from_below():
    found = bisect(lambda removed: (1 - removed) ** 2, 0.5)
    assert 0.49 <= (1 - found) ** 2 <= 0.5


def test_bisection_prefers_less_to_more():
    # two levels lie within the tolerance, one above the budget and one below
    def left(removed):
        return 1.0 if removed < 0.3 else 0.704 if removed < 0.4 else 0.694

    assert left(bisect(left, 0.7)) == 0.694


def test_bisection_takes_more_where_less_cannot_be_had():
    def left(removed):
        return 0.705 if removed < 0.4 else 0.6

    assert left(bisect(left, 0.7)) == 0.705


def test_bisection_takes_the_nearest_where_steps_are_coarse():
    def left(removed):
        return 0.719 if removed < 0.4 else 0.683

    assert left(bisect(left, 0.7)) == 0.683


def test_bisection_names_the_nearest_where_nothing_fits():
    with pytest.raises(OutOfReachError, match=r"nearest leaves 0\.800"):
        bisect(lambda _: 0.8, 0.5)


def test_bisection_asks_no_more_often_than_told():
    asked = []

    def left(removed):
        asked.append(removed)
        return 1 - removed

    bisect(left, 0.123456, steps=8)
    assert len(asked) <= 8
