"""Fitting what a ReLU lets through.

Where outputs land at a ReLU alone, a negative value may become any other negative one:

    min_W  sum | relu(L) - relu(L') |^2     L = s t + c,  L' = s W^T [r 1] + c

with targets t and what is added behind the layer in c. Alternate: where L < 0 the goal is
min(L', 0), elsewhere L; W is the ridge fit to the goals. Each round needs one product with the
rows, the factorised Gram matrix is reused, and momentum makes up for the slow tail (Nesterov 1983).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg

from onnx_scsp.observe.landing import invertible
from onnx_scsp.observe.regression import Products, ridge_of
from onnx_scsp.types import BoolArray, FloatArray

ROUNDS = 12
MOST_ELEMENTS = 1 << 24
"""Rows x inputs that may be kept in memory."""
MOST_PRODUCTS = 1 << 32
"""Rows x inputs x outputs that a round may multiply."""


@dataclass(slots=True, eq=False)
class Rows:
    """Rows of one layer, kept.

    Attributes:
        rows: Blocks (groups, samples, positions, d).
        targets: Blocks (groups, samples, positions, outputs).
        added: Blocks of the same, what is added before the ReLU in the network as it is now.
        held: Bool (samples,) per block.
    """

    rows: list[FloatArray] = field(default_factory=list)
    targets: list[FloatArray] = field(default_factory=list)
    added: list[FloatArray] = field(default_factory=list)
    held: list[BoolArray] = field(default_factory=list)

    def add(
        self, rows: FloatArray, targets: FloatArray, added: FloatArray, held: BoolArray
    ) -> None:
        """Keeps one batch."""
        for blocks, block in zip(
            (self.rows, self.targets, self.added), (rows, targets, added), strict=True
        ):
            blocks.append(block)
        self.held.append(held)

    def part(self, held: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rows with a 1 appended, targets and additions of the held-out samples or the others."""
        parts = []
        for blocks in (self.rows, self.targets, self.added):
            chosen = [b[:, h == held] for b, h in zip(blocks, self.held, strict=True)]
            flat = [b.reshape(b.shape[0], b.shape[1] * b.shape[2], b.shape[3]) for b in chosen]
            parts.append(np.concatenate(flat, axis=1))
        rows, targets, added = parts
        return np.concatenate([rows, np.ones((*rows.shape[:2], 1))], axis=2), targets, added


def refine(
    kept: Rows,
    train: Products,
    start: FloatArray,
    best: FloatArray,
    share: float,
    scale: FloatArray,
) -> tuple[FloatArray, float, float]:
    """Improves a fit for what the ReLU lets through.

    Args:
        kept: The rows.
        train: Sums over the training rows.
        start: Weights that the ridge pulls towards, (groups, d + 1, outputs).
        best: The fit to start from.
        share: Ridge strength.
        scale: float64 (groups, outputs), from outputs to where they land.

    Returns:
        The weights, and the held-out error before and after.
    """
    rows, targets, added = kept.part(held=False)
    factor = scale[:, None, :]
    safe = invertible(factor)
    landed = factor * targets + added
    grams = [train.gram(g) for g in range(len(start))]
    ridges = [ridge_of(gram, share) for gram in grams]
    factors = [
        scipy.linalg.cho_factor(gram + np.diag(ridge))
        for gram, ridge in zip(grams, ridges, strict=True)
    ]
    transposed = rows.transpose(0, 2, 1)
    now, ahead, pace = best, best, 1.0
    for _ in range(ROUNDS):
        reached = factor * (rows @ ahead) + added
        goal = np.where(landed > 0, landed, np.minimum(reached, 0.0))
        right = transposed @ ((goal - added) / safe)
        fresh = np.stack(
            [
                scipy.linalg.cho_solve(factors[g], right[g] + ridges[g][:, None] * start[g])
                for g in range(len(start))
            ]
        )
        quicker = (1.0 + np.sqrt(1.0 + 4.0 * pace**2)) / 2.0
        ahead = fresh + (pace - 1.0) / quicker * (fresh - now)
        now, pace = fresh, quicker
    judge = kept.part(held=True)
    if not judge[0].shape[1]:
        judge = (rows, targets, added)
    return now, _error(judge, best, factor), _error(judge, now, factor)


def _error(
    part: tuple[FloatArray, FloatArray, FloatArray], weights: FloatArray, factor: FloatArray
) -> float:
    rows, targets, added = part
    wanted = np.maximum(factor * targets + added, 0.0)
    got = np.maximum(factor * (rows @ weights) + added, 0.0)
    return float(np.square(wanted - got).sum())
