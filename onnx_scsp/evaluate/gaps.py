"""Divergence of one model's outputs from another's, gathered batch by batch.

Divergence of b from a, the mean over the outputs of

    kl    1/n sum_i sum_c p_ic (log p_ic - log q_ic)        p, q: softmax over c of a, b
    mse   sum |a - b|^2 / sum |a - mean(a)|^2               mean(a): one number per output

`auto` takes kl for outputs of class scores, floats of shape (samples, C) with C > 1, and for maps
of probabilities, one distribution (non-negative, with the sum 1) per position: (samples, C, ...) or
(samples, ..., C), i then being samples and positions. It takes mse for all others (a row of
regression targets looks like class scores: ask for mse). Scores that are probabilities already are
taken as p and q directly, q no smaller than 1e-12. An mse of 1 is what the best constant would
reach.

Why not mse for probabilities: where a network is sure, they hardly move until they flip, so that
small losses do not add up to large ones; their logarithms show what comes nearer to a flip.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import log_softmax

from onnx_scsp.errors import ConfigError
from onnx_scsp.inputs import spell
from onnx_scsp.types import AnyArray

KINDS = ("auto", "kl", "mse")
_SMALLEST_PROBABILITY = 1e-12
_SUM_TOLERANCE = 1e-2
"""Rows of half precision probabilities miss 1 by a few thousandths."""
_AT_ONCE = 1 << 22
"""About how many values are compared at a time; their logarithms take doubles."""


class Gaps:
    """Divergence of one model's outputs from another's, gathered batch by batch."""

    def __init__(self, kind: str = "auto") -> None:
        self._kind = kind
        self._gaps: dict[str, _Gap] = {}

    def add(self, left: Mapping[str, AnyArray], right: Mapping[str, AnyArray]) -> None:
        """Adds a batch of outputs: the reference's, the other's of the same names and shapes."""
        for name, value in left.items():
            if name not in self._gaps:
                self._gaps[name] = _gap(name, value, right[name], self._kind)
            self._gaps[name].add(value, right[name])

    @property
    def value(self) -> float:
        """Mean over the outputs; NaN or infinite where the other's outputs are."""
        if not self._gaps:
            raise ConfigError("the models have no tensor outputs to compare")
        return sum(gap.value for gap in self._gaps.values()) / len(self._gaps)


class _Divergence:
    """Mean of KL(p || q) over samples, or over samples and positions."""

    def __init__(self, axis: int, *, probabilities: bool) -> None:
        self._axis = axis
        self._between = _between_probabilities if probabilities else _between_scores
        self._total = 0.0
        self._rows = 0

    def add(self, left: AnyArray, right: AnyArray) -> None:
        a, b = self._distributions(left), self._distributions(right)
        step = max(_AT_ONCE // max(a.shape[1], 1), 1)
        for first in range(0, len(a), step):
            part = slice(first, first + step)
            self._total += self._between(a[part], b[part])
        self._rows += len(a)

    def _distributions(self, values: AnyArray) -> AnyArray:
        """One row per distribution."""
        last = np.moveaxis(squeezed(values), self._axis, -1)
        return last.reshape(-1, last.shape[-1])

    @property
    def value(self) -> float:
        # rounding can leave a sum of equal distributions a hair below zero
        return max(self._total / self._rows, 0.0) if self._rows else 0.0


def _between_scores(a: AnyArray, b: AnyArray) -> float:
    p, q = (log_softmax(rows.astype(np.float64), axis=1) for rows in (a, b))
    return float((np.exp(p) * (p - q)).sum())


def _between_probabilities(a: AnyArray, b: AnyArray) -> float:
    # thousands of classes at every step: single precision says as much as the outputs do
    dtype = np.float64 if a.dtype == np.float64 else np.float32
    p, q = (np.maximum(rows.astype(dtype), dtype(_SMALLEST_PROBABILITY)) for rows in (a, b))
    return float((p * np.log(p / q)).sum(dtype=np.float64))


class _RelativeError:
    """Squared error over the variance of the reference, both summed over everything seen."""

    def __init__(self) -> None:
        self._error = 0.0
        self._count = 0
        self._mean = 0.0
        self._spread = 0.0

    def add(self, left: AnyArray, right: AnyArray) -> None:
        if not left.size:
            return
        a, b = left.astype(np.float64), right.astype(np.float64)
        self._error += float(np.square(a - b).sum())
        # two sets of values merge without the cancellation that a sum of squares suffers
        mean, total = float(a.mean()), self._count + a.size
        shift = mean - self._mean
        self._spread += float(np.square(a - mean).sum())
        self._spread += shift * shift * self._count * a.size / total
        self._mean += shift * a.size / total
        self._count = total

    @property
    def value(self) -> float:
        if self._error == 0.0:
            return 0.0
        # a reference that never changes has no variance: its own size stands in for it
        power = self._spread + self._count * self._mean**2
        return self._error / max(self._spread, 1e-12 * power, 1e-300)


_Gap = _Divergence | _RelativeError


def _gap(name: str, left: AnyArray, right: AnyArray, kind: str) -> _Gap:
    """How one output is compared, judged by its first batch."""
    axis = class_axis(left)
    if kind == "kl" and axis is None:
        raise ConfigError(
            f"output '{name}' ({spell(left.shape)}) is no row of class scores per sample, and no "
            "map of probabilities; use mse"
        )
    if kind == "mse" or axis is None:
        return _RelativeError()
    both = all(_are_probabilities(squeezed(values), axis) for values in (left, right))
    if not both and squeezed(left).ndim > 2:
        return _RelativeError()
    return _Divergence(axis, probabilities=both)


def class_axis(values: AnyArray) -> int | None:
    """Along which axis of the squeezed values the classes lie.

    Args:
        values: An output (samples, ...).

    Returns:
        1 for rows of class scores (samples, C), 1 or the last for maps of probabilities along it,
        None for everything else.
    """
    flat = squeezed(values) if values.ndim else values
    if flat.ndim < 2 or flat.dtype.kind in "iub":
        return None
    if flat.ndim == 2:
        return 1
    return next((axis for axis in (1, flat.ndim - 1) if _are_probabilities(flat, axis)), None)


def squeezed(values: AnyArray) -> AnyArray:
    """Drops axes of length 1, but not the first one."""
    return values.reshape(len(values), *[size for size in values.shape[1:] if size != 1])


def _are_probabilities(values: AnyArray, axis: int) -> bool:
    if not (values >= 0).all():
        return False
    return bool((np.abs(values.sum(axis=axis, dtype=np.float64) - 1) < _SUM_TOLERANCE).all())
