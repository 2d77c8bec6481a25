"""Reductions, Softmax and ArgMax: over positions they pass.

A reduction over channels computes, of those that stay, what it would if the others were zero,

    sums and norms          as they are
    mean over n' of n       x n' / n
    maximum, minimum        of itself and 0

except where a mean is taken back into the channels it is of, by a difference, a quotient or a
product: that is a normalisation, and they stay. Softmax and the others hold the channels that they
run over. Where channels vary along the reduced axis and another one (branches beside channels, in
selective kernels), whole fibres along the reduced axis go together: then no other fibre notices.
"""

from __future__ import annotations

import math

import numpy as np

from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.types import FreezeReason, IntArray

_LINEAR = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
_CURVED = ("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
_TAKES_ZEROS = frozenset({"ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"})
_EXTREMES = {"ReduceMax": "Max", "ReduceMin": "Min"}
_FIRST_BROADCAST = 8
"""Operator set from which Mul, Max and Min take a single number as second operand."""


def _reduce(site: Site, restricted: bool = False) -> None:
    x = site.x(0)
    axes = _axes(site, len(x.shape))
    labels = None if axes is None else _fibres(site, x, set(axes))
    if axes is not None and labels is None:
        labels = _over_channels(site, x, restricted)
    if axes is None or labels is None:
        _mixes(site, x, f"{site.node.op_type} runs over channels")
        return
    keep = bool(site.attr("keepdims", 1))
    site.emit(labels if keep else np.squeeze(labels, axis=tuple(axes)))


def _reduce_what_stays(site: Site) -> None:
    _reduce(site, restricted=True)


def _over_channels(site: Site, x: Labelled, restricted: bool) -> IntArray | None:
    """The label of a result that all channels went into; None where zeros would change it."""
    op_type = site.node.op_type
    mendable = op_type == "ReduceMean" or op_type in _EXTREMES
    known = op_type in _TAKES_ZEROS or (mendable and site.opset >= _FIRST_BROADCAST)
    if not (known and site.is_float(0)):
        return None
    axis = x.varying[-1]
    channels = site.vector(x, axis)
    site.reduces(0, axis, channels, restricted)
    label = site.fresh(1)
    site.freeze(label, FreezeReason.MIXES_CHANNELS, f"{op_type} runs over channels")
    if op_type == "ReduceMean" and not restricted:
        site.facts.means.update(label.tolist())
    return label.reshape((1,) * len(x.shape))


def _mend_reduce(mend: Mend) -> None:
    """Over what stays, the result is that over all with zeros for what went."""
    name, op_type = mend.node.inputs[0], mend.node.op_type
    old, new, out = mend.old_shapes[name], mend.in_shape(0), mend.out_shape(0)
    if old == new or out != mend.old_shapes[mend.node.outputs[0]]:
        return
    if op_type == "ReduceMean":
        mend.behind = ("Mul", math.prod(new) / math.prod(old))
    elif op_type in _EXTREMES:
        mend.behind = (_EXTREMES[op_type], 0.0)


def _fibres(site: Site, x: Labelled, axes: set[int]) -> IntArray | None:
    """Ties the labels along `axes` and returns those that are left; None where none would be."""
    mixed = [axis for axis in x.varying if axis in axes]
    if not mixed:
        return x.labels
    if len(mixed) == len(x.varying):
        return None
    first = x.labels
    for axis in mixed:
        first = first.take([0], axis=axis)
    site.tie(first, x.labels)
    return first


def _curved_reduce(site: Site) -> None:
    _reduce(site)
    site.curve(site.x(0).labels)


def _axes(site: Site, rank: int) -> list[int] | None:
    """Reduced axes, or None where they are unknown."""
    given = site.attr("axes")
    if given is None and site.has(1):
        value = site.value(1)
        if value is None:
            return None
        given = [int(axis) for axis in value.reshape(-1)]
    if not given:
        return [] if site.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [int(axis) % rank for axis in given]


def _softmax(site: Site) -> None:
    """Before opset 13 the operator flattens: everything from `axis` on is one axis."""
    x = site.x(0)
    if site.opset < 13:
        axis = int(site.attr("axis", 1)) % len(x.shape)
        axes = set(range(axis, len(x.shape)))
    else:
        axes = {int(site.attr("axis", -1)) % len(x.shape)}
    if _fibres(site, x, axes) is None:
        _mixes(site, x, f"{site.node.op_type} runs over channels")
        return
    site.curve(x.labels)
    site.emit(x.labels)


def _arg(site: Site) -> None:
    x = site.x(0)
    axis = int(site.attr("axis", 0)) % len(x.shape)
    labels = _fibres(site, x, {axis})
    if labels is None:
        _mixes(site, x, f"{site.node.op_type} picks a channel number")
        return
    site.emit(labels if site.attr("keepdims", 1) else np.squeeze(labels, axis=axis))


def _mixes(site: Site, x: Labelled, detail: str) -> None:
    labels: IntArray = x.labels
    site.freeze(labels, FreezeReason.MIXES_CHANNELS, detail)
    site.emit_frozen(FreezeReason.MIXES_CHANNELS, detail)


RULES = (
    OpRule(_LINEAR, _reduce, "over channels, those that go count as zero", _mend_reduce),
    OpRule(
        _CURVED,
        _curved_reduce,
        "over channels, those that go count as zero (ReduceProd, ReduceLogSumExp: they stay)",
    ),
    OpRule(("Softmax", "LogSoftmax", "Hardmax"), _softmax, "over other axes it passes"),
    OpRule(("ArgMax", "ArgMin"), _arg, "over other axes it passes"),
)

APPROXIMATE_RULES = (
    OpRule(
        ("ReduceMean", "ReduceMax", "ReduceMin"),
        _reduce_what_stays,
        "runs over the channels that stay",
    ),
)
"""In place of the rules above, where a result need not be the original with channels masked."""
