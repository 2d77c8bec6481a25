"""Backward elimination: which units can go, one after the other, and what each costs its readers.

A reader with weight W (D, O) sees inputs of covariance H. If the inputs S of one unit go and the
others make up for it as well as they can, its output loses

    loss(S) = tr( W_S^T (P_SS)^-1 W_S )          P = (H + damping)^-1
    W <- W - P_:S P_SS^-1 W_S                    P <- P - P_:S P_SS^-1 P_S:

(the optimal brain surgeon on blocks; Hassibi and Stork 1993). The unit of smallest loss goes first:
relative to the variance of the place where the outputs land, and summed over its readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_scsp.observe.layers import Linear
from onnx_scsp.types import BoolArray, FloatArray, IntArray

DAMPING = 1e-3
_STEP = 64
"""Beyond so many units several go at a time, so that every pool takes about as many steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What one group of a layer reads of some units.

    Attributes:
        layer: The layer.
        group: Which of its groups.
        covariance: float64 (D, D) of the inputs.
        mean: float64 (D,) of the inputs.
        weight: float64 (D, O).
        scale: float64 (O,), from outputs to where they land.
        inputs: Unit -> the inputs (of D) that it feeds.
        variance: Variance of the landing place, over all the layer's channels.
    """

    layer: Linear
    group: int
    covariance: FloatArray
    mean: FloatArray
    weight: FloatArray
    scale: FloatArray
    inputs: Mapping[int, IntArray]
    variance: float


@dataclass(frozen=True, slots=True, eq=False)
class Elimination:
    """The whole way down.

    Attributes:
        order: int (n,), units from the first to go to the last.
        loss: float64 (n + 1,), loss over the number of units that stay; loss[n] = 0.
        snapshots: Number of units that stay -> the readers' weights then, one per `Read`.
    """

    order: IntArray
    loss: FloatArray
    snapshots: Mapping[int, tuple[FloatArray, ...]]


def eliminate(reads: Sequence[Read], n_units: int, snapshots: Iterable[int] = ()) -> Elimination:
    """Removes unit after unit.

    Args:
        reads: What reads the units.
        n_units: How many units there are.
        snapshots: Numbers of units at which the readers' weights are wanted.

    Returns:
        Order, losses and weights.
    """
    wanted = set(snapshots)
    states = [_State(read) for read in reads]
    gone = np.zeros(n_units, bool)
    order: list[int] = []
    loss = np.zeros(n_units + 1)
    taken: dict[int, tuple[FloatArray, ...]] = {}
    step = max(1, n_units // _STEP)
    while len(order) < n_units:
        scores = np.zeros(n_units)
        for state in states:
            scores += state.scores(gone)
        scores[gone] = np.inf
        for unit in np.argsort(scores, kind="stable")[: min(step, n_units - len(order))]:
            stays = n_units - len(order)
            loss[stays - 1] = loss[stays] + sum(state.remove(int(unit)) for state in states)
            gone[unit] = True
            order.append(int(unit))
            if stays - 1 in wanted:
                taken[stays - 1] = tuple(state.unscaled() for state in states)
    return Elimination(np.array(order, np.int64), loss, taken)


class _State:
    """One reader on the way down."""

    def __init__(self, read: Read) -> None:
        size = len(read.covariance)
        damping = DAMPING * float(np.trace(read.covariance)) / max(size, 1)
        left = read.covariance + max(damping, 1e-12) * np.eye(size)
        self.read = read
        self.inverse = np.linalg.inv(left)
        self.weight = read.weight * read.scale
        widths = {len(places) for places in read.inputs.values()}
        self.units = np.array(sorted(read.inputs), np.int64)
        self.even = len(widths) == 1
        self.places = [read.inputs[int(unit)] for unit in self.units]

    def scores(self, gone: BoolArray) -> FloatArray:
        found = np.zeros(gone.size)
        alive = np.flatnonzero(~gone[self.units])
        if not alive.size:
            return found
        if self.even:
            places = np.stack([self.places[i] for i in alive])
            blocks = self.inverse[places[:, :, None], places[:, None, :]]
            slices = self.weight[places]
            found[self.units[alive]] = np.einsum(
                "nso,nso->n", slices, np.linalg.solve(blocks, slices)
            )
        else:
            for i in alive:
                found[self.units[i]] = self._loss(self.places[i])[0]
        return found / max(self.read.variance, 1e-300)

    def _loss(self, places: IntArray) -> tuple[float, FloatArray]:
        block = self.inverse[np.ix_(places, places)]
        right = np.concatenate([self.weight[places], self.inverse[places]], axis=1)
        solved = np.linalg.solve(block, right)
        outputs = self.weight.shape[1]
        return float(np.sum(self.weight[places] * solved[:, :outputs])), solved

    def remove(self, unit: int) -> float:
        places = self.read.inputs.get(unit)
        if places is None:
            return 0.0
        loss, solved = self._loss(places)
        outputs = self.weight.shape[1]
        columns = self.inverse[:, places].copy()
        self.weight -= columns @ solved[:, :outputs]
        self.inverse -= columns @ solved[:, outputs:]
        self.weight[places] = 0.0
        self.inverse[places] = 0.0
        self.inverse[:, places] = 0.0
        self.inverse[places, places] = 1.0
        return max(loss, 0.0) / max(self.read.variance, 1e-300)

    def unscaled(self) -> FloatArray:
        scale = self.read.scale
        safe = np.where(np.abs(scale) < 1e-6, np.inf, scale)
        return np.where(np.isinf(safe), self.read.weight, self.weight / safe)
