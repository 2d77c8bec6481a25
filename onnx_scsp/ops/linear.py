"""Gemm and MatMul: with a constant weight they make and read channels; without, they contract.

Where two activations carry channels on the axis that their product sums over (queries and keys),
entry i of one and entry i of the other go together; the products that stay are the sum over all,
with zeros for what went. Where only one carries channels, on an axis that survives (values), they
pass. Channels may lie on axes of the batch as well (heads): the same entries go in each.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.blocking import block
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.types import FreezeReason


def _gemm(site: Site) -> None:
    """Y = alpha A' B' + beta C with A' (M, K), B' (K, N)."""
    if not site.is_const(1) or site.is_const(0):
        detail = "its second operand is no constant"
        block(site, detail)
        site.hold(site.out_shape()[1], FreezeReason.COMPUTED_WEIGHT, detail)
        site.cost(float(np.prod(site.out_shape())) * _contracted(site))
        return
    trans_a, trans_b = bool(site.attr("transA", 0)), bool(site.attr("transB", 0))
    read = site.vector(site.x(0), 0 if trans_a else 1)
    made = site.fresh(site.out_shape()[1])
    site.reads(1, 1 if trans_b else 0, read)
    site.makes(1, 0 if trans_b else 1, made)
    if site.has(2) and site.shape(2) and site.shape(2)[-1] == len(made):
        site.scales(2, len(site.shape(2)) - 1, made)
    site.cost(float(site.out_shape()[0]), made, read)
    site.emit(made.reshape(1, -1))


def _matmul(site: Site) -> None:
    """numpy.matmul; a constant operand is a weight."""
    if site.is_const(1) and not site.is_const(0):
        _matmul_weight(site, data=0, weight=1)
    elif site.is_const(0) and not site.is_const(1):
        _matmul_weight(site, data=1, weight=0)
    else:
        _matmul_activations(site)


def _matmul_weight(site: Site, data: int, weight: int) -> None:
    shape, x, out_shape = site.shape(weight), site.x(data), site.out_shape()
    if len(shape) < 2 or len(x.shape) < 2 or any(size != 1 for size in shape[:-2]):
        detail = "a batched or one-dimensional weight has no single channel axis"
        block(site, detail)
        site.hold(out_shape[-1] if out_shape else 1, FreezeReason.NOT_CHANNEL_AXIS, detail)
        site.cost(float(np.prod(out_shape)) * site.shape(0)[-1])
        return
    rank = len(shape)
    # X @ W reads the last axis of X; W @ X reads the last but one.
    axis, read_axis, made_axis = (-1, rank - 2, rank - 1) if data == 0 else (-2, rank - 1, rank - 2)
    read = site.vector(x, axis)
    made = site.fresh(shape[made_axis])
    site.reads(weight, read_axis, read)
    site.makes(weight, made_axis, made)
    site.cost(float(np.prod(out_shape)) / len(made), made, read)
    view = [1] * len(out_shape)
    view[axis] = len(made)
    site.emit(made.reshape(view))


def _matmul_activations(site: Site) -> None:
    """A free axis of one operand passes through; contracted channels stay."""
    a, b = site.x(0), site.x(1)
    rank_a, rank_b = len(a.shape), len(b.shape)
    if min(rank_a, rank_b) < 2:
        block(site, "one operand is a vector")
        return
    # of the two last axes; labels on axes of the batch are tied along them
    places_a = {axis - rank_a for axis in a.varying} & {-1, -2}
    places_b = {axis - rank_b for axis in b.varying} & {-1, -2}
    if not a.varying and places_b == {-1}:
        _pass_through(site, b, a, -1)
    elif not b.varying and places_a == {-2}:
        _pass_through(site, a, b, -2)
    elif places_a == {-1} and places_b == {-2} and site.is_float(0):
        _contract(site, a, b)
    else:
        block(site, "both operands carry channels on axes that the product mixes")
        site.cost(float(np.prod(site.out_shape())) * a.shape[-1])


def _pass_through(site: Site, carrier: Labelled, other: Labelled, place: int) -> None:
    """The carrier's free axis survives; the other operand only weighs positions."""
    site.freeze(other.labels, FreezeReason.BROADCAST, "weighs positions of another activation")
    labels = site.vector(carrier, place)
    view = [1] * len(site.out_shape())
    view[place] = labels.size
    contracted = other.shape[-1 if place == -1 else -2]
    site.cost(float(np.prod(site.out_shape())) / labels.size * contracted, labels)
    site.emit(labels.reshape(view))


def _contract(site: Site, a: Labelled, b: Labelled) -> None:
    """Entry i of the last axis of one meets entry i of the last but one of the other."""
    left, right = site.vector(a, -1), site.vector(b, -2)
    site.tie(left, right)
    site.reduces(0, -1, left)
    site.cost(float(np.prod(site.out_shape())), left)
    label = site.fresh(1)
    site.freeze(label, FreezeReason.MIXES_CHANNELS, "a product over channels")
    site.emit(label)


def _contracted(site: Site) -> int:
    return site.shape(0)[0 if site.attr("transA", 0) else -1]


RULES = (
    OpRule(("Gemm",), _gemm, "makes and reads channels; a bias on the last axis scales"),
    OpRule(
        ("MatMul",),
        _matmul,
        "a constant operand is a weight; channels that two activations sum over go together",
    ),
)
