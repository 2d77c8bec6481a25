"""Fitting a layer from Gram matrices of channels, where patches are too large to.

A convolution with C input channels and T kernel positions sees C T values at a position: too many,
sometimes, for a Gram matrix. With one row per channel, the original's channels x are regressed on
the channels x' that are left,

    min_B  sum | x - B^T [x' 1] |^2  +  ridge towards the kept channels as they are
    W'[k, t] = sum_h B[k, h] W[h, t]        b' = b + sum_t c_t sum_h B[1, h] W[h, t]

at every kernel position t alike; c_t is the share of outputs at which position t lies inside the
input. An error counts as it reaches the outputs, tr(Q R) with Q = sum_t W_t W_t^T and R the second
moments of what is left of x. (GRAIL, Tang et al., arXiv 2602.23795, with the intercept that it
leaves out, on the pruned network's activations.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_scsp.observe.layers import Linear
from onnx_scsp.observe.regression import SHARES, Products, fit
from onnx_scsp.observe.rows import Sample, channels_at
from onnx_scsp.types import AnyArray, BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A layer's new weights.

    Attributes:
        matrix: float64 (groups, D, O), rows of removed channels zero.
        bias: float64 (outputs,).
        before: Held-out error of the weights as cut, relative to the variance.
        after: The same now.
        share: Ridge strength, None where the weights stay.
    """

    matrix: FloatArray
    bias: FloatArray
    before: float
    after: float
    share: float | None


class ChannelFit:
    """Second moments of one layer's input channels, in the original network and as it is now."""

    def __init__(self, layer: Linear, kept: BoolArray) -> None:
        self._layer = layer
        self._kept = kept.reshape(layer.groups, -1)
        self._left = int(self._kept[0].sum())
        size = self._left + 1 + self._kept.shape[1]
        self._sums = np.zeros((2, layer.groups, size, size))
        self._rows = np.zeros(2, np.int64)
        self._inside = np.zeros(layer.taps)
        self._positions = 0

    def add(
        self, before: AnyArray, now: AnyArray, place: AnyArray, seen: Sample, held: BoolArray
    ) -> None:
        """Adds a batch.

        Args:
            before: The layer's input in the original network.
            now: The same in the network as it is now.
            place: int (samples, positions), flat positions in the input.
            seen: Output positions, which say what lies inside the input.
            held: Bool (samples,), which ones are held out.
        """
        layer = self._layer
        old, new = (channels_at(layer, x, place) for x in (before, now))
        finite = np.isfinite(old).all(axis=(0, 2)) & np.isfinite(new).all(axis=(0, 2))
        kept = np.stack([part[:, mask] for part, mask in zip(new, self._kept, strict=True)])
        ones = np.ones((*kept.shape[:2], 1))
        rows = np.concatenate([kept, ones, old], axis=2)
        belongs = np.repeat(held, place.shape[1])
        for part in range(2):
            chosen = rows[:, finite & (belongs == bool(part))]
            self._sums[part] += chosen.transpose(0, 2, 1) @ chosen
            self._rows[part] += chosen.shape[1]
        if layer.is_conv:
            outside = int(np.prod(now.shape[2:], dtype=np.int64))
            self._inside += (seen.inputs < outside).sum(axis=(0, 1))
        else:
            self._inside += seen.position.size
        self._positions += seen.position.size

    def solve(self, matrix: FloatArray, bias: FloatArray) -> Fitted | None:
        """Fits on the training samples, judges on the held-out ones.

        Args:
            matrix: float64 (groups, D, O), the layer's weights before the cut.
            bias: float64 (outputs,).

        Returns:
            The weights, or None where there are no samples.
        """
        if not self._rows[0]:
            return None
        layer, groups = self._layer, len(matrix)
        width = self._kept.shape[1]
        taps = matrix.reshape(groups, width, layer.taps, -1)
        readers = np.einsum("ghto,gkto->ghk", taps, taps)
        train = self._products(0)
        judge = self._sums[1 if self._rows[1] else 0]
        start = np.zeros((groups, self._left + 1, width))
        for g, mask in enumerate(self._kept):
            start[g, np.arange(self._left), np.flatnonzero(mask)] = 1.0
        best, share = start, None
        before = lowest = self._error(judge, readers, start)
        for strength in SHARES:
            found = fit(train, start, strength, bias=bool(layer.bias))
            error = self._error(judge, readers, found)
            if np.isfinite(error) and error < lowest:
                best, share, lowest = found, strength, error
        spread = max(self._spread(judge, readers), 1e-300)
        mixed = np.einsum("gkh,ghto->gkto", best, taps)
        fresh = np.zeros_like(taps)
        for g, mask in enumerate(self._kept):
            fresh[g, mask] = mixed[g, :-1]
        coverage = self._inside / max(self._positions, 1)
        shift = np.einsum("gto,t->go", mixed[:, -1], coverage).reshape(-1)
        return Fitted(
            fresh.reshape(matrix.shape), bias + shift, before / spread, lowest / spread, share
        )

    def _products(self, part: int) -> Products:
        sums, left = self._sums[part], self._left + 1
        power = np.diagonal(sums[:, left:, left:], axis1=1, axis2=2)
        return Products(
            lower=sums[:, :left, :left],
            cross=sums[:, :left, left:],
            power=power,
            total=sums[:, self._left, left:],
            rows=int(self._rows[part]),
            is_whole=True,
        )

    def _error(self, sums: FloatArray, readers: FloatArray, found: FloatArray) -> float:
        """tr(Q R), summed over the groups."""
        left = self._left + 1
        gram, cross, whole = sums[:, :left, :left], sums[:, :left, left:], sums[:, left:, left:]
        transposed = found.transpose(0, 2, 1)
        rest = whole - transposed @ cross - cross.transpose(0, 2, 1) @ found
        rest = rest + transposed @ gram @ found
        return max(float(np.sum(readers * rest)), 0.0)

    def _spread(self, sums: FloatArray, readers: FloatArray) -> float:
        """tr(Q C), C the covariance of x times the number of rows."""
        left = self._left + 1
        total = sums[:, self._left, left:]
        rows = sums[0, self._left, self._left]
        centred = sums[:, left:, left:] - total[:, :, None] * total[:, None, :] / max(rows, 1.0)
        return float(np.sum(readers * centred))
