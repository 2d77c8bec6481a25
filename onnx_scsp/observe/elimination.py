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
import scipy.linalg

from onnx_scsp.observe.landing import invertible
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
        tied: Kernel positions that share the inputs: these are channels then, and O counts the
            outputs of every position.
    """

    layer: Linear
    group: int
    covariance: FloatArray
    mean: FloatArray
    weight: FloatArray
    scale: FloatArray
    inputs: Mapping[int, IntArray]
    variance: float
    tied: int = 1


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
        stays = n_units - len(order)
        going = np.argsort(scores, kind="stable")[: min(step, stays)]
        # weights are wanted at some counts: stop there
        stops = [stays - left for left in wanted if stays - going.size < left < stays]
        for units in np.split(going, sorted(stops)):
            stays = n_units - len(order)
            added = sum((state.remove(units) for state in states), np.zeros(units.size))
            loss[stays - units.size : stays] = (loss[stays] + np.cumsum(added))[::-1]
            gone[units] = True
            order.extend(units.tolist())
            if stays - units.size in wanted:
                taken[stays - units.size] = tuple(state.unscaled() for state in states)
    return Elimination(np.array(order, np.int64), loss, taken)


class _State:
    """One reader on the way down: rows of the arrays are the inputs that it still has."""

    def __init__(self, read: Read) -> None:
        size = len(read.covariance)
        damping = DAMPING * float(np.trace(read.covariance)) / max(size, 1)
        self.read = read
        self.inverse = np.linalg.inv(read.covariance + max(damping, 1e-12) * np.eye(size))
        self.weight = read.weight * read.scale
        self.inputs = np.arange(size)
        self.row = np.arange(size)
        widths = {len(places) for places in read.inputs.values()}
        self.units = np.array(sorted(read.inputs), np.int64)
        self.even = len(widths) == 1

    def scores(self, gone: BoolArray) -> FloatArray:
        found = np.zeros(gone.size)
        alive = self.units[~gone[self.units]]
        if not alive.size:
            return found
        places = [self._places(unit) for unit in alive]
        stacks = [(alive[i : i + 1], place[None]) for i, place in enumerate(places)]
        if self.even:
            stacks = [(alive, np.stack(places))]
        for units, stack in stacks:
            blocks = self.inverse[stack[:, :, None], stack[:, None, :]]
            slices = self.weight[stack]
            found[units] = np.einsum("nso,nso->n", slices, np.linalg.solve(blocks, slices))
        return found / max(self.read.variance, 1e-300)

    def remove(self, units: IntArray) -> FloatArray:
        """Losses (len(units),) as these units go, one after the other."""
        losses = np.zeros(units.size)
        mine = [place for place, unit in enumerate(units) if int(unit) in self.read.inputs]
        if not mine:
            return losses
        parts = [self._places(units[place]) for place in mine]
        places = np.concatenate(parts)
        # with P_SS = L L^T the losses of the units in turn are the squares of L^-1 W_S, row by row
        factor = _factor(np.asarray(self.inverse[np.ix_(places, places)], np.float64))
        right = np.concatenate([self.weight[places], self.inverse[places]], axis=1)
        solved = scipy.linalg.solve_triangular(factor, right, lower=True)
        slices, across = np.split(solved, [self.weight.shape[1]], axis=1)
        starts = np.cumsum([0, *(part.size for part in parts[:-1])])
        losses[mine] = np.add.reduceat(np.square(slices).sum(axis=1), starts)
        stays = np.ones(self.inputs.size, bool)
        stays[places] = False
        across = across[:, stays]
        self.weight = self.weight[stays] - across.T @ slices
        self.inverse = self.inverse[np.ix_(stays, stays)]
        self.inverse -= across.T @ across
        self.inputs = self.inputs[stays]
        self.row[self.inputs] = np.arange(self.inputs.size)
        return losses / max(self.read.variance, 1e-300)

    def unscaled(self) -> FloatArray:
        """The weights as the layer would hold them now, with zeros for what is gone."""
        scale = invertible(self.read.scale)
        found = np.zeros_like(self.read.weight)
        found[self.inputs] = self.weight / scale
        return np.where(np.isinf(scale), self.read.weight, found)

    def _places(self, unit: int) -> IntArray:
        return self.row[self.read.inputs[int(unit)]]


def _factor(block: FloatArray) -> FloatArray:
    """Lower Cholesky factor, of the nearest positive matrix where rounding has left none."""
    try:
        return np.asarray(np.linalg.cholesky(block))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(block)
        floor = 1e-12 * max(float(values[-1]), 1e-300)
        return np.asarray(np.linalg.cholesky((vectors * np.maximum(values, floor)) @ vectors.T))
