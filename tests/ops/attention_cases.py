"""Cases of attention written out: heads, products of queries and keys, numbers made from widths."""

from __future__ import annotations

import numpy as np
from net_builder import Net
from onnx import numpy_helper
from ops.case import CHANNELS, Case, Fragment
from ops.more_cases import image_of, rows

HEADS, WIDTH = 2, 10


def tokens(n: Net, x: str) -> str:
    """(batch, positions, channels), mixed once."""
    return str(n.op("MatMul", rows(n, x), n.random(CHANNELS, CHANNELS, fan_in=CHANNELS)))


def heads(n: Net, x: str) -> str:
    """One projection as (batch, heads, positions, width)."""
    y = n.op("MatMul", x, n.random(CHANNELS, HEADS * WIDTH, fan_in=CHANNELS))
    y = n.op("Reshape", y, n.const([0, 0, HEADS, WIDTH]))
    return str(n.op("Transpose", y, perm=[0, 2, 1, 3]))


def stacked(n: Net, x: str) -> list[str]:
    """Queries, keys and values from one projection, picked by number."""
    y = n.op("MatMul", x, n.random(CHANNELS, 3 * HEADS * WIDTH, fan_in=CHANNELS))
    y = n.op("Reshape", y, n.const([0, 0, 3, HEADS, WIDTH]))
    y = n.op("Transpose", y, perm=[2, 0, 3, 1, 4])
    return [str(n.op("Gather", y, n.const(place), axis=0)) for place in range(3)]


def root_of_width(n: Net, q: str) -> str:
    """What exporters make of `sqrt(q.shape[-1])`."""
    width = n.op("Gather", n.op("Shape", q), n.const(3), axis=0)
    return str(n.op("Sqrt", n.op("Cast", width, to=1)))


def attention(*, together: bool, from_shape: bool) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        x = tokens(n, x)
        q, k, v = stacked(n, x) if together else [heads(n, x) for _ in range(3)]
        seen = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
        seen = n.op("Div", seen, root_of_width(n, q) if from_shape else n.const(3.0))
        y = n.op("MatMul", n.op("Softmax", seen, axis=-1), v)
        y = n.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1, 3]), n.const([0, 0, -1]))
        y = n.op("MatMul", y, n.random(HEADS * WIDTH, CHANNELS, fan_in=HEADS * WIDTH))
        return image_of(n, n.op("Add", x, y))

    return fragment


def by_letters(n: Net, x: str) -> str:
    """The same products as Einsum spells them."""
    x = tokens(n, x)
    q, k, v = (heads(n, x) for _ in range(3))
    seen = n.op("Softmax", n.op("Einsum", q, k, equation="bhid,bhjd->bhij"), axis=-1)
    y = n.op("Einsum", seen, v, equation="bhij,bhjd->bihd")
    y = n.op("Reshape", y, n.const([0, 0, -1]))
    y = n.op("MatMul", y, n.random(HEADS * WIDTH, CHANNELS, fan_in=HEADS * WIDTH))
    return image_of(n, n.op("Add", x, y))


def token(n: Net, x: str) -> str:
    """A learned row before those of the picture, one for every sample."""
    x = tokens(n, x)
    row = n.random(1, 1, CHANNELS)
    shape = n.op("Concat", n.op("Shape", x, end=1), n.const([-1, -1]), axis=0)
    ones = n.op("ConstantOfShape", n.const([3]), value=numpy_helper.from_array(np.array([1])))
    shape = n.op("Where", n.op("Equal", shape, n.const([-1])), ones, shape)
    x = n.op("Concat", n.op("Expand", row, shape), x, axis=1)
    x = n.op("MatMul", x, n.random(CHANNELS, CHANNELS, fan_in=CHANNELS))
    return image_of(n, n.slice(x, [1], [65], [1]))


def first_state(n: Net, x: str) -> str:
    """Zeros as wide as the channels, for as many samples as there are: joined, then mixed."""
    y = n.op("Squeeze", n.op("GlobalAveragePool", x), n.const([2, 3]))
    shape = n.op("Concat", n.op("Shape", x, end=1), n.const([CHANNELS]), axis=0)
    state = n.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([0.5], "f4")))
    y = n.op("Sigmoid", n.op("Add", y, state))
    return str(n.op("Mul", x, n.op("Unsqueeze", y, n.const([2, 3]))))


ATTENTION = [
    Case("MatMul-heads", "MatMul", attention(together=False, from_shape=False)),
    Case("MatMul-heads-of-one", "MatMul", attention(together=True, from_shape=False)),
    Case("Einsum-attention", "Einsum", by_letters),
    Case("Gather-number", "Gather", attention(together=True, from_shape=False)),
    Case("Div-root-of-width", "Div", attention(together=False, from_shape=True)),
    Case("Expand-token", "Expand", token),
    Case("ConstantOfShape", "ConstantOfShape", first_state),
]
