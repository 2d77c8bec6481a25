"""What is measured: shares of right answers, character accuracy, hmean of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]  # (n, 4): left, top, right, bottom


def share(answers: Sequence[object], truths: Sequence[object]) -> float:
    """Right answers in percent.

    Args:
        answers: What was said.
        truths: What is so, in the same order.

    Returns:
        0 to 100.
    """
    if len(answers) != len(truths) or not truths:
        raise ValueError(f"{len(answers)} answers to {len(truths)} questions")
    right = sum(bool(a == b) for a, b in zip(answers, truths, strict=True))
    return 100 * right / len(truths)


def edit_distance(found: str, truth: str) -> int:
    """Insertions, deletions and substitutions from one text to the other (Levenshtein)."""
    row = list(range(len(truth) + 1))
    for i, a in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(truth, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def character_accuracy(found: Sequence[str], truths: Sequence[str]) -> float:
    """1 - CER in percent, over all texts together; never below 0.

    Args:
        found: Recognised texts.
        truths: The texts as written.

    Returns:
        0 to 100.
    """
    errors = sum(edit_distance(a, b) for a, b in zip(found, truths, strict=True))
    letters = sum(len(text) for text in truths)
    if not letters:
        raise ValueError("no text to compare with")
    return max(0.0, 100 * (1 - errors / letters))


def overlaps(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every box of `a` with every box of `b`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=2)
    size_a, size_b = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b))
    union = size_a[:, None] + size_b[None, :] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def matches(found: Boxes, truth: Boxes, least: float = 0.5) -> int:
    """Pairs of boxes that overlap by at least `least`, each box in one pair, best pairs first."""
    if not len(found) or not len(truth):
        return 0
    shares = overlaps(found, truth)
    count = 0
    while True:
        best = int(shares.argmax())
        row, column = divmod(best, shares.shape[1])
        if shares[row, column] < least:
            return count
        count += 1
        shares[row], shares[:, column] = -1, -1


def hmean(found: Sequence[Boxes], truth: Sequence[Boxes], least: float = 0.5) -> float:
    """Harmonic mean of precision and recall of boxes, in percent, over all pages together.

    Args:
        found: Per page, the boxes that were found.
        truth: Per page, the boxes that are there.
        least: Overlap (intersection over union) from which on a box counts as found.

    Returns:
        0 to 100.
    """
    hits = sum(matches(a, b, least) for a, b in zip(found, truth, strict=True))
    total = sum(len(boxes) for boxes in found) + sum(len(boxes) for boxes in truth)
    return 200 * hits / total if total else 0.0
