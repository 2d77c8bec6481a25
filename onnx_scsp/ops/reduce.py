"""Reductions, Softmax and ArgMax: fine over positions, a block over channels.

Where channels vary along the reduced axis and another one (branches stacked beside channels, as in
selective kernels), whole fibres along the reduced axis go together: then no other fibre notices.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.types import FreezeReason, IntArray

_LINEAR = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
_CURVED = ("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")


def _reduce(site: Site) -> None:
    x = site.x(0)
    axes = _axes(site, len(x.shape))
    labels = None if axes is None else _fibres(site, x, set(axes))
    if axes is None or labels is None:
        _mixes(site, x, f"{site.node.op_type} runs over channels")
        return
    keep = bool(site.attr("keepdims", 1))
    site.emit(labels if keep else np.squeeze(labels, axis=tuple(axes)))


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
    OpRule(_LINEAR, _reduce, "over positions it passes, over channels it blocks"),
    OpRule(_CURVED, _curved_reduce, "over positions it passes, over channels it blocks"),
    OpRule(("Softmax", "LogSoftmax", "Hardmax"), _softmax, "over other axes it passes"),
    OpRule(("ArgMax", "ArgMin"), _arg, "over other axes it passes"),
)
