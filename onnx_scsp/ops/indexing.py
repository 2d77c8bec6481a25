"""Operators that sort, pick or place entries along an axis: channels on the other axes pass."""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.blocking import block, freeze_inputs
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason, IntArray

_PLACES = "its entries are places in another activation"


def _along_axis(site: Site) -> None:
    """TopK and CumSum run along one axis."""
    x = site.x(0)
    axis: int | None
    if site.node.op_type == "CumSum":
        given = site.value(1)
        axis = None if given is None else int(given.reshape(-1)[0])
    else:
        axis = int(site.attr("axis", -1))
    if axis is None or axis % len(x.shape) in x.varying:
        block(site, f"{site.node.op_type} runs over channels")
        return
    site.curve(x.labels)
    for index in range(len(site.node.outputs)):
        site.emit(x.labels, index)


def _over_axes(site: Site) -> None:
    """ReverseSequence and Trilu: two axes are worked on, the rest is a batch."""
    x, rank = site.x(0), len(site.shape(0))
    axes = {rank - 2, rank - 1}
    if site.node.op_type == "ReverseSequence":
        axes = {int(site.attr("batch_axis", 1)) % rank, int(site.attr("time_axis", 0)) % rank}
    if axes & set(x.varying):
        block(site, f"{site.node.op_type} treats channels by their place")
        return
    freeze_inputs(site, (0,), _PLACES, FreezeReason.BROADCAST)
    site.emit(x.labels)


def _one_hot(site: Site) -> None:
    """The numbers of a place become a new axis; channels on the old ones pass."""
    x, rank = site.x(0), len(site.out_shape())
    freeze_inputs(site, (0,), "a value that all entries share", FreezeReason.BROADCAST)
    site.curve(x.labels)
    site.emit(np.expand_dims(x.labels, int(site.attr("axis", -1)) % rank))


def _elements(site: Site) -> None:
    """GatherElements and ScatterElements: entry c of the other axes meets entry c only."""
    x = site.x(0)
    axis = int(site.attr("axis", 0)) % len(x.shape)
    others = range(1, len(site.node.inputs))
    if axis in x.varying or any(
        site.shape(index)[place] != x.shape[place] for index in others for place in x.varying
    ):
        block(site, f"{site.node.op_type} picks channels entry by entry")
        return
    for index in others:
        _goes_along(site, index, x.labels)
    site.emit(x.labels)


def _gather_nd(site: Site) -> None:
    """Index tuples pick along the leading axes; the axes behind them are copied whole."""
    x, indices = site.x(0), site.shape(1)
    untouched = int(site.attr("batch_dims", 0)) + indices[-1]
    if any(axis < untouched for axis in x.varying):
        block(site, "picks channels by index tuples")
        return
    freeze_inputs(site, (0,), _PLACES, FreezeReason.BROADCAST)
    site.emit(x.labels.reshape(x.labels.shape[untouched:]))


def _scatter_nd(site: Site) -> None:
    """Index tuples place along the leading axes; the axes behind them are written whole."""
    x, indices, updates = site.x(0), site.shape(1), len(site.shape(2))
    untouched = indices[-1]
    if any(axis < untouched for axis in x.varying):
        block(site, "places channels by index tuples")
        return
    freeze_inputs(site, (0, 2), _PLACES, FreezeReason.BROADCAST)
    tail = x.labels.reshape(x.labels.shape[untouched:])
    _goes_along(site, 2, tail.reshape((1,) * (updates - tail.ndim) + tail.shape))
    site.emit(x.labels)


def _goes_along(site: Site, index: int, labels: IntArray) -> None:
    """An operand whose entries lie beside those of `labels`, axis by axis."""
    if not site.is_const(index):
        site.equal(site.x(index).labels, labels)
        return
    varying = [axis for axis, size in enumerate(labels.shape) if size > 1]
    if len(varying) > 1:
        site.freeze(labels, FreezeReason.NOT_CHANNEL_AXIS, "channels lie on several axes")
    elif varying:
        site.scales(index, varying[0], labels.reshape(-1))


def _numbers(site: Site) -> None:
    block(site, f"{site.node.op_type} finds places among all entries")


RULES = (
    OpRule(("TopK", "CumSum"), _along_axis, "over other axes it passes"),
    OpRule(("ReverseSequence", "Trilu"), _over_axes, "channels on the axes it works on stay"),
    OpRule(("OneHot",), _one_hot, "adds an axis; channels pass"),
    OpRule(
        ("GatherElements", "ScatterElements", "Scatter"),
        _elements,
        "along other axes it passes; constant indices and updates scale",
    ),
    OpRule(("GatherND",), _gather_nd, "channels behind the indexed axes pass"),
    OpRule(("ScatterND",), _scatter_nd, "channels behind the indexed axes pass"),
    OpRule(("NonMaxSuppression", "NonZero", "Unique"), _numbers, "numbers places: channels stay"),
)

CONTRIB_RULES = (
    OpRule(("Trilu",), _over_axes, "channels on the last two axes stay", domain="com.microsoft"),
    OpRule(
        ("GatherND",), _gather_nd, "channels behind the indexed axes pass", domain="com.microsoft"
    ),
)
