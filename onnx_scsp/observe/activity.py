"""What inputs show about units, reader by reader, in arrays that describe no more than the units.

A reader with weights W sees inputs of covariance H, of which unit i feeds S_i. What unit i adds to
the outputs is W_Si^T r_Si, so that over the inputs

    K(i, j) = sum over s in S_i, t in S_j of  H(s, t) (W_s . W_t)

is the covariance of what two units contribute. For a 1x1 reader this is the product, entry by
entry, of the Gram matrix of the activations and the Gram matrix of the reader's weights. With the
kernel positions averaged, the units' values themselves have

    G(i, j) = mean over kernel positions p of  H(i_p, j_p)        q(i) = |W_Si|^2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_scsp.observe.elimination import Elimination, Read
from onnx_scsp.types import FloatArray, IntArray
from onnx_scsp.units import Activity, View


def activity_of(
    reads: Sequence[Read], way: Elimination, ranks: Mapping[str, FloatArray] | None
) -> Activity:
    """What is known of one pool's units.

    Args:
        reads: What reads the pool.
        way: Its backward elimination.
        ranks: Activation -> mean ranks of its channels' maps, where they are wanted.

    Returns:
        Activity, in the order of the pool's units.
    """
    size = way.order.size
    loss = np.zeros(size)
    loss[way.order] = way.loss[:-1][::-1]
    views = tuple(
        view_of(read.covariance, read.weight * read.scale, read.inputs, read.variance)
        for read in reads
    )
    return Activity(views, loss, None if ranks is None else _mean_ranks(reads, size, ranks))


def view_of(
    covariance: FloatArray, weight: FloatArray, inputs: Mapping[int, IntArray], variance: float
) -> View:
    """One reader's view.

    Args:
        covariance: float64 (D, D), H.
        weight: float64 (D, O), W, scaled to where the outputs land.
        inputs: Unit -> the inputs (of D) that it feeds, in one order for all.
        variance: Variance of the place where the outputs land.
    """
    rows = np.array(sorted(inputs), np.int64)
    parts = [inputs[int(row)] for row in rows]
    shared = min(len(part) for part in parts)
    gram = np.zeros((rows.size, rows.size))
    for column in np.stack([part[:shared] for part in parts]).T:
        gram += covariance[np.ix_(column, column)]
    places = np.concatenate(parts)
    slices = weight[places]
    products = covariance[np.ix_(places, places)] * (slices @ slices.T)
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    total = np.add.reduceat(np.add.reduceat(products, starts, axis=0), starts, axis=1)
    size = np.add.reduceat(np.square(slices).sum(axis=1), starts)
    least = max(variance, 1e-300)
    return View(rows, gram / max(shared, 1), size / least, total / least)


def _mean_ranks(reads: Sequence[Read], size: int, ranks: Mapping[str, FloatArray]) -> FloatArray:
    """float64 (size,): mean over what the readers see of each unit."""
    total, count = np.zeros(size), np.zeros(size)
    for read in reads:
        layer = read.layer
        first = read.group * (layer.inputs // layer.groups)
        for row, places in read.inputs.items():
            channels = np.unique(places // (layer.taps // read.tied))
            found = ranks[layer.x][first + channels]
            total[row] += found.sum()
            count[row] += found.size
    return total / np.maximum(count, 1.0)
