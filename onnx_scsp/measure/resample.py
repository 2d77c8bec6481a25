"""Medians, quartiles, and how sure a ratio of medians is.

    ratio    = median_i(b_i) / median_i(a_i)
    interval = percentiles of the same over resampled rounds i_1 .. i_n, drawn with replacement

A round is drawn as a whole (Efron and Tibshirani, An Introduction to the Bootstrap, 1993): what
slowed a and b of one round alike cancels in the ratio.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.measure.records import Timing
from onnx_scsp.types import FloatArray

CONFIDENCE = 0.95
_RESAMPLES = 2000


def timing(seconds: FloatArray) -> Timing:
    """Median and quartiles.

    Args:
        seconds: float64 (rounds,).

    Returns:
        The same in milliseconds.
    """
    q1, median, q3 = np.percentile(seconds * 1e3, [25, 50, 75])
    return Timing(float(median), float(q1), float(q3), int(seconds.size))


def ratio_of_medians(a: FloatArray, b: FloatArray) -> float:
    """Median of b over median of a."""
    return float(np.median(b) / np.median(a))


def bootstrap_interval(
    a: FloatArray,
    b: FloatArray,
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    resamples: int = _RESAMPLES,
) -> tuple[float, float]:
    """Percentile interval of `ratio_of_medians`.

    Args:
        a: float64 (rounds,).
        b: float64 (rounds,), the same rounds.
        seed: Of the resampling.
        confidence: Share of the resampled ratios that lie inside.
        resamples: How often the rounds are drawn anew.

    Returns:
        Lower and upper end.
    """
    rounds = np.random.default_rng(seed).integers(0, a.size, (resamples, a.size))
    ratios = np.median(b[rounds], axis=1) / np.median(a[rounds], axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(ratios, [tail, 100.0 - tail])
    return float(low), float(high)


def noise_floor(interval: tuple[float, float]) -> float:
    """How far from 1 an interval of something against itself reaches."""
    return max(abs(end - 1.0) for end in interval)
