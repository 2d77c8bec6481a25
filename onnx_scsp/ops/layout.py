"""Operators that only move data: the numpy operation itself, applied to the labels."""

from __future__ import annotations

import math

import numpy as np

from onnx_scsp.ops.blocking import block, block_unknown
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.types import AnyArray, FreezeReason, IntArray


def _reshape(site: Site) -> None:
    if not block_unknown(site, 1):
        _regroup(site)


def _regroup(site: Site) -> None:
    """The same values under another shape, if there are as many: sizes tried may fit no run."""
    x, target = site.x(0), site.out_shape()
    if math.prod(x.shape) != math.prod(target):
        detail = f"{_sizes(x.shape)} values do not fit {_sizes(target)} (try --input-shape)"
        block(site, detail, FreezeReason.UNKNOWN_SHAPE)
        return
    site.emit(reshape_labels(x, target))


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def reshape_labels(x: Labelled, target: tuple[int, ...]) -> IntArray:
    """Labels of a reshaped activation, expanding only where axes are split or joined.

    Args:
        x: The activation.
        target: Its new shape.

    Returns:
        Label array of rank `len(target)`, axes full or of size 1.
    """
    if 0 in x.shape:
        return np.broadcast_to(x.labels.reshape(-1)[:1], (1,) * len(target))
    pieces: list[tuple[tuple[int, ...], tuple[int, ...]]] = _blocks(x.shape, target)
    axis = 0
    source_view: list[int] = []
    target_view: list[int] = []
    expand: list[int] = []
    for old, new in pieces:
        axes = range(axis, axis + len(old))
        if any(x.labels.shape[a] > 1 for a in axes):
            expand.extend(axes)
            source_view.extend(old)
            target_view.extend(new)
        else:
            source_view.extend((1,) * len(old))
            target_view.extend((1,) * len(new))
        axis += len(old)
    full = x.along(tuple(expand)) if expand else x.labels
    return _squeeze_constant(np.ascontiguousarray(full).reshape(target_view))


def _blocks(
    old: tuple[int, ...], new: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Splits two shapes of equal size into the shortest runs of axes with equal products."""
    pieces = []
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0 = i, j
        left = right = 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        pieces.append((old[i0:i], new[j0:j]))
    return pieces


def _squeeze_constant(labels: IntArray) -> IntArray:
    """Collapses axes along which the labels turn out not to vary."""
    for axis, size in enumerate(labels.shape):
        if size > 1:
            first = labels.take([0], axis=axis)
            if (labels == first).all():
                labels = first
    return labels


def _transpose(site: Site) -> None:
    x = site.x(0)
    perm = site.attr("perm") or list(range(len(x.shape)))[::-1]
    site.emit(np.transpose(x.labels, perm))


def _expand(site: Site) -> None:
    """Entries along an axis that grows from 1 are new slots: they may go with their neighbours."""
    if site.is_const(0):
        _expand_constant(site)
        return
    if block_unknown(site, 1):
        return
    x, shape = site.x(0), site.out_shape()
    labels = x.labels.reshape((1,) * (len(shape) - len(x.shape)) + x.labels.shape)
    old = (1,) * (len(shape) - len(x.shape)) + x.shape
    grown = [axis for axis in range(len(shape)) if old[axis] == 1 and shape[axis] > 1]
    channel_like = [axis for axis in grown if axis == 1 and not x.varying]
    if channel_like:
        site.freeze(x.labels, FreezeReason.BROADCAST, "one channel is expanded to many")
        free = site.fresh(shape[1])
        site.emit(free.reshape(1, -1, *(1,) * (len(shape) - 2)))
    else:
        site.emit(labels)


def _expand_constant(site: Site) -> None:
    """One stored row for every sample (a class token): its entries may go with what they join."""
    axes = [axis for axis, size in enumerate(site.shape(0)) if size > 1]
    if len(axes) != 1:
        site.emit_frozen(FreezeReason.NO_PRODUCER, "expands a constant")
        return
    rank, own = len(site.out_shape()), len(site.shape(0))
    labels = site.fresh(site.shape(0)[axes[0]])
    site.scales(0, axes[0], labels)
    view = [1] * rank
    view[axes[0] + rank - own] = labels.size
    site.emit(labels.reshape(view))


def _fill(site: Site) -> None:
    """One number everywhere: axis 1 has slots that may go with whatever they meet."""
    shape = site.out_shape()
    if len(shape) < 2 or shape[1] == 1:
        site.emit_frozen(FreezeReason.NO_PRODUCER, "makes values from no channels")
        return
    site.emit(site.fresh(shape[1]).reshape(1, -1, *(1,) * (len(shape) - 2)))


def _mend_fill(mend: Mend) -> None:
    """Its input spells its shape."""
    known = mend.known(0)
    if mend.is_cut() and known is not None:
        required = np.array(mend.out_shape(), np.int64)
        old = np.array(mend.old_shapes[mend.node.outputs[0]], np.int64)
        mend.set_entries(0, required, (required != old) & (required != known.value))


def _mend_target(mend: Mend) -> None:
    """Reshape and Expand spell their output shape in input 1 (or in an attribute, opset < 5)."""
    if not mend.is_cut():
        return
    required = np.array(mend.out_shape(), np.int64)
    known = mend.known(1) if mend.node.input(1) else None
    if known is None:
        spelled = mend.node.attr("shape")
        if spelled is not None:
            mend.attributes["shape"] = [
                old if old in (0, -1) else int(new)
                for old, new in zip(spelled, required, strict=True)
            ]
            return
        current = np.zeros_like(required)
        mend.set_entries(1, required, np.ones(required.size, bool) | (current != required))
        return
    if mend.node.op_type == "Expand":
        _mend_expand(mend, required, known.value)
    else:
        _mend_reshape(mend, required, known.value)


def _mend_reshape(mend: Mend, required: IntArray, spelled: AnyArray) -> None:
    allow_zero = bool(mend.node.attr("allowzero", 0))
    before = mend.in_shape(0)
    effective = spelled.astype(np.int64).copy()
    for axis, size in enumerate(effective):
        if size == 0 and not allow_zero:
            effective[axis] = before[axis]
    unknown = effective == -1
    if unknown.any():
        effective[unknown] = math.prod(before) // max(1, math.prod(effective[~unknown].tolist()))
    wrong = effective != required
    if not wrong.any():
        return
    # an entry of -1 or 0 that comes out right once the others are mended stays as it is
    wrong &= ~unknown
    mend.set_entries(1, required, wrong)


def _mend_expand(mend: Mend, required: IntArray, spelled: AnyArray) -> None:
    """A spelled 1 keeps the input's size; any other number has to be the new one."""
    offset = len(required) - spelled.size
    target = required[offset:]
    mend.set_entries(1, target, (spelled != 1) & (spelled != target))


def _squeeze(site: Site) -> None:
    _regroup(site)


def _tile(site: Site) -> None:
    """Repeats along axes without channels pass; the copies of one channel go together."""
    x = site.x(0)
    repeats = site.value(1)
    if repeats is None:
        detail = "repeats by a number unknown here"
        site.freeze(x.labels, FreezeReason.DYNAMIC_VALUE, detail)
        site.emit_frozen(FreezeReason.DYNAMIC_VALUE, detail)
        return
    times = [int(repeats[axis]) if axis in x.varying else 1 for axis in range(len(x.shape))]
    site.emit(x.labels if max(times, default=1) == 1 else site.distinct(np.tile(x.labels, times)))


def _depth_to_space(site: Site) -> None:
    """Channels that become the pixels of one block go together."""
    x, block = site.x(0), int(site.attr("blocksize")) ** 2
    channels = site.vector(x, 1)
    if site.attr("mode", "DCR") == "CRD":
        blocks = channels.reshape(-1, block)  # the pixels of one channel lie side by side
    else:
        blocks = channels.reshape(block, -1).T  # they lie a whole set of channels apart
    site.tie(blocks[:, :1], blocks)
    site.emit(blocks[:, 0].reshape(1, -1, 1, 1))


def _space_to_depth(site: Site) -> None:
    """Each pixel of a block becomes a channel of its own; those of one channel go together."""
    x, block = site.x(0), int(site.attr("blocksize")) ** 2
    channels = site.distinct(np.tile(site.vector(x, 1), block))
    site.emit(channels.reshape(1, -1, 1, 1))


RULES = (
    OpRule(
        ("Reshape",), _reshape, "moves labels; splits keep what stays rectangular", _mend_target
    ),
    OpRule(("Flatten", "Squeeze", "Unsqueeze"), _squeeze, "moves labels"),
    OpRule(("Transpose",), _transpose, "moves labels"),
    OpRule(("Expand",), _expand, "an expanded channel axis makes free slots", _mend_target),
    OpRule(("ConstantOfShape",), _fill, "slots of one number: they go with others", _mend_fill),
    OpRule(("DepthToSpace",), _depth_to_space, "ties the channels that become one block"),
    OpRule(("SpaceToDepth",), _space_to_depth, "ties the channels that come from one"),
    OpRule(("Tile",), _tile, "ties the copies of one channel"),
)
