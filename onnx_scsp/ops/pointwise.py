"""Elementwise operators with one, two or more operands, under numpy broadcasting.

A constant operand that spans the channel axis scales channels. Two activations whose labels vary
along the same axes go together; an operand that is broadcast along the other's channel axis (an
attention map over positions) imposes nothing, but its own channel has to stay.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.types import FreezeReason

_HOMOGENEOUS = ("Relu", "LeakyRelu", "Neg", "Abs", "Identity", "Cast", "CastLike", "Dropout")
_CURVED = tuple(
    (
        "Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh Elu Erf Exp Floor "
        "Gelu HardSigmoid HardSwish IsInf IsNaN Log Mish Not Reciprocal Round Selu Shrink Sigmoid "
        "Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
    ).split()
)
_LINEAR_NARY = ("Add", "Sub", "Sum", "Max", "Min", "Mean")
_CURVED_NARY = tuple(
    (
        "And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less "
        "LessOrEqual Mod Mul Or PRelu Pow Where Xor"
    ).split()
)
_NORMALISING = frozenset({"Sub", "Div", "Mul"})
_WRITTEN_OUT = (
    "a mean over channels comes back to channels: a normalisation, where removing one changes the "
    "others"
)


def _unary(site: Site) -> None:
    labels = site.x(0).labels
    for index in range(len(site.node.outputs)):
        site.emit(labels, index)


def _curved_unary(site: Site) -> None:
    _unary(site)
    site.curve(site.x(0).labels)


def _nary(site: Site) -> None:
    activations = [i for i in range(len(site.node.inputs)) if site.has(i) and not site.is_const(i)]
    result = site.x(activations[0])
    for index in activations[1:]:
        result = _pair(site, result, site.x(index))
    for index in range(len(site.node.inputs)):
        if site.has(index) and site.is_const(index):
            result = _with_constant(site, result, index)
    site.emit(result.labels)


def _curved_nary(site: Site) -> None:
    _nary(site)
    activations = [i for i in range(len(site.node.inputs)) if site.has(i) and not site.is_const(i)]
    constants = [i for i in range(len(site.node.inputs)) if site.has(i) and site.is_const(i)]
    scaled_by_number = len(activations) == 1 and all(
        np.prod(site.shape(index)) == 1 for index in constants
    )
    if not (scaled_by_number and site.node.op_type in ("Mul", "Div")):
        for index in activations:
            site.curve(site.x(index).labels)


def _pair(site: Site, a: Labelled, b: Labelled) -> Labelled:
    """Labels of the broadcast result of two activations."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = _lift(a, len(shape)), _lift(b, len(shape))
    a_is_short = _is_short(a, b, shape)
    b_is_short = _is_short(b, a, shape)
    if a_is_short and b_is_short:
        detail = "an outer product of two activations' channels"
        for operand in (a, b):
            site.freeze(operand.labels, FreezeReason.BROADCAST, detail)
        label = site.fresh(1)
        site.freeze(label, FreezeReason.BROADCAST, detail)
        return Labelled(shape, label.reshape((1,) * len(shape)))
    if a_is_short:
        return _pair(site, b, a)
    if b_is_short:
        site.freeze(b.labels, FreezeReason.BROADCAST, "one value serves all channels of another")
        if site.node.op_type in _NORMALISING and site.facts.means.intersection(b.labels.flat):
            site.freeze(a.labels, FreezeReason.MIXES_CHANNELS, _WRITTEN_OUT)
        return Labelled(shape, a.labels)
    site.equal(a.labels, b.labels)
    finer = np.broadcast_arrays(a.labels, b.labels)[0]
    return Labelled(shape, np.ascontiguousarray(finer))


def _lift(x: Labelled, rank: int) -> Labelled:
    extra = (1,) * (rank - len(x.shape))
    return Labelled(extra + x.shape, x.labels.reshape(extra + x.labels.shape))


def _is_short(x: Labelled, other: Labelled, shape: tuple[int, ...]) -> bool:
    """Whether x is broadcast along an axis on which the other's labels vary."""
    return any(x.shape[axis] == 1 and shape[axis] > 1 for axis in other.varying)


def _with_constant(site: Site, x: Labelled, index: int) -> Labelled:
    """A constant operand: one entry per channel where it spans the axis of the labels."""
    constant = site.shape(index)
    shape = np.broadcast_shapes(x.shape, constant)
    x = _lift(x, len(shape))
    lifted = (1,) * (len(shape) - len(constant)) + constant
    if not x.varying and any(lifted[axis] > 1 and x.shape[axis] == 1 for axis in range(len(shape))):
        site.freeze(x.labels, FreezeReason.BROADCAST, "broadcast against a wider constant")
    for axis in x.varying:
        if lifted[axis] > 1:
            labels = site.vector(x, axis)
            site.scales(index, axis - (len(shape) - len(constant)), labels)
    return Labelled(shape, x.labels)


def _mend_numbers(mend: Mend) -> None:
    """A number made from a cut size (the root of a width, say) stays what it was."""
    for index, name in enumerate(mend.node.inputs):
        before, known = mend.before.get(name), mend.known(index)
        if before is None or known is None or known.value.shape != before.shape:
            continue  # data, or a constant that was cut
        if known.static.all() and not np.array_equal(known.value, before):
            mend.inputs[index] = before


RULES = (
    OpRule(_HOMOGENEOUS, _unary, "elementwise; commutes with a positive factor"),
    OpRule(_CURVED, _curved_unary, "elementwise"),
    OpRule(
        _LINEAR_NARY,
        _nary,
        "elementwise with broadcasting; ties operands, constants scale",
        _mend_numbers,
    ),
    OpRule(
        _CURVED_NARY, _curved_nary, "elementwise with broadcasting; constants scale", _mend_numbers
    ),
)
