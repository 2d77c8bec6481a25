"""Operators that join channels or take some of them: Concat, Split, Slice, Gather, Pad."""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.blocking import block_unknown
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.types import BoolArray, FreezeReason, IntArray

# ---- Concat ---------------------------------------------------------------------------------


def _concat(site: Site) -> None:
    shape = site.out_shape()
    axis = int(site.attr("axis", 1)) % len(shape)
    parts = [_part(site, index, axis) for index in range(len(site.node.inputs))]
    parts = [part for part in parts if 0 not in part.shape]
    others = tuple(sorted({a for part in parts for a in part.varying} - {axis}))
    if others and not any(axis in part.varying for part in parts):
        # joined along positions: channel c of every part is one channel
        for part in parts[1:]:
            site.tie(parts[0].labels, part.labels)
        site.emit(np.broadcast_arrays(*(part.labels for part in parts))[0].copy())
        return
    expanded = [part.along((axis, *others)) for part in parts]
    site.emit(site.distinct(np.concatenate(expanded, axis=axis)))


def _part(site: Site, index: int, axis: int) -> Labelled:
    """A constant part has slots of its own along the joined axis."""
    if not site.is_const(index):
        return site.x(index)
    shape = site.shape(index)
    labels = site.fresh(shape[axis])
    site.scales(index, axis, labels)
    view = [1] * len(shape)
    view[axis] = -1
    return Labelled(shape, labels.reshape(view))


# ---- Split ----------------------------------------------------------------------------------


def _split(site: Site) -> None:
    x = site.x(0)
    axis = int(site.attr("axis", 0)) % len(x.shape)
    splits_channels = axis in x.varying
    if splits_channels and block_unknown(site, 1):
        return
    labels = site.distinct(x.labels) if splits_channels else x.labels
    start = 0
    for index, name in enumerate(site.node.outputs):
        stop = start + (site.out_shape(index)[axis] if name else 0)
        part = np.take(labels, np.arange(start, stop), axis=axis) if splits_channels else labels
        site.emit(part, index)
        start = stop


def _mend_split(mend: Mend) -> None:
    axis = int(mend.node.attr("axis", 0)) % len(mend.in_shape(0))
    sizes = [mend.new_shapes[name][axis] for name in mend.node.outputs]
    spelled = bool(mend.node.input(1)) or mend.node.has_attr("split")
    total = mend.in_shape(0)[axis]
    if not spelled and sizes == _equal_parts(total, len(sizes)):
        return
    if sizes == [mend.old_shapes[name][axis] for name in mend.node.outputs]:
        return
    if mend.opset < 13:
        mend.attributes["split"] = sizes
        return
    known = mend.known(1)
    if known is None:
        mend.inputs[1] = np.array(sizes, np.int64)
        mend.attributes["num_outputs"] = None
    else:
        required = np.array(sizes, np.int64)
        mend.set_entries(1, required, required != known.value)


def _equal_parts(total: int, count: int) -> list[int]:
    """Sizes that a Split without sizes yields: equal, the last one possibly smaller."""
    part = -(-total // count)
    return [part] * (count - 1) + [total - part * (count - 1)]


# ---- Slice ----------------------------------------------------------------------------------


def _slice(site: Site) -> None:
    x = site.x(0)
    bounds = _slice_operands(site, len(x.shape))
    if bounds is None:
        detail = "slices channels at bounds that are unknown before run time"
        site.freeze(x.labels, FreezeReason.DYNAMIC_VALUE, detail)
        site.emit_frozen(FreezeReason.DYNAMIC_VALUE, detail)
        return
    labels = site.distinct(x.labels) if set(bounds) & set(x.varying) else x.labels
    for axis, (start, stop, step) in bounds.items():
        if axis not in x.varying:
            continue
        if step != 1:
            detail = f"takes every {step}th channel"
            site.freeze(x.labels, FreezeReason.MIXES_CHANNELS, detail)
        kept = np.arange(x.shape[axis])[slice(start, stop, step)]
        labels = np.take(labels, kept, axis=axis)
    site.emit(labels)


def _slice_operands(site: Site, rank: int) -> dict[int, tuple[int, int | None, int]] | None:
    """Axis -> python slice bounds; None where bounds on a channel axis are unknown."""
    if site.opset < 10:
        starts, ends = list(site.attr("starts")), list(site.attr("ends"))
        axes = list(site.attr("axes") or range(len(starts)))
        steps = [1] * len(starts)
    else:
        operands = [site.value(i) if site.has(i) else None for i in range(1, 5)]
        known_axes = operands[2] if site.has(3) else None
        if site.has(3) and known_axes is None:
            return None
        if operands[0] is None or operands[1] is None:
            blocked = set(range(rank)) if known_axes is None else _axes_set(known_axes, rank)
            return None if blocked & set(site.x(0).varying) else {}
        starts, ends = operands[0].reshape(-1).tolist(), operands[1].reshape(-1).tolist()
        axes = list(range(len(starts))) if known_axes is None else known_axes.reshape(-1).tolist()
        steps = operands[3].reshape(-1).tolist() if operands[3] is not None else [1] * len(starts)
    return {
        int(axis) % rank: _python_bounds(int(start), int(end), int(step))
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def _axes_set(axes: IntArray, rank: int) -> set[int]:
    return {int(axis) % rank for axis in axes.reshape(-1)}


def _python_bounds(start: int, end: int, step: int) -> tuple[int, int | None, int]:
    """ONNX spells "to the very front" of a negative step as a huge negative end."""
    if step < 0 and end < -(2**30):
        return start, None, step
    return start, end, step


def _mend_slice(mend: Mend) -> None:
    """Bounds on a cut axis become the numbers of kept entries before them."""
    if not mend.is_cut():
        return
    if mend.opset < 10:
        starts, ends = list(mend.node.attr("starts")), list(mend.node.attr("ends"))
        axes = list(mend.node.attr("axes") or range(len(starts)))
        starts, ends, _ = _moved_bounds(mend, starts, ends, axes)
        mend.attributes["starts"], mend.attributes["ends"] = starts, ends
        return
    before = [mend.before.get(mend.node.input(index)) for index in (1, 2, 3)]
    if before[0] is None or before[1] is None:
        return  # only axes without channels are sliced at unknown bounds
    axes = list(range(before[0].size)) if before[2] is None else before[2].tolist()
    *bounds, moved = _moved_bounds(mend, before[0].tolist(), before[1].tolist(), axes)
    for index, bound in zip((1, 2), bounds, strict=True):
        known = mend.known(index)
        required = np.array(bound, np.int64)
        current = required if known is None else known.value
        mend.set_entries(index, required, moved & (required != current))


def _moved_bounds(
    mend: Mend, starts: list[int], ends: list[int], axes: list[int]
) -> tuple[list[int], list[int], BoolArray]:
    """Bounds on the axes after the cut, and which of them lie on a cut axis."""
    source, rank = mend.node.inputs[0], len(mend.in_shape(0))
    starts, ends, moved = list(starts), list(ends), np.zeros(len(axes), bool)
    for place, axis in enumerate(axes):
        kept = mend.kept(source, int(axis) % rank)
        if kept.all():
            continue
        first, last, _ = slice(int(starts[place]), int(ends[place])).indices(kept.size)
        starts[place], ends[place] = int(kept[:first].sum()), int(kept[:last].sum())
        moved[place] = True
    return starts, ends, moved


# ---- Gather ---------------------------------------------------------------------------------


def _gather(site: Site) -> None:
    if site.is_const(0):
        detail = "looks rows up in a table"
        site.freeze(site.x(1).labels, FreezeReason.MIXES_CHANNELS, detail)
        site.emit_frozen(FreezeReason.MIXES_CHANNELS, detail)
        return
    x = site.x(0)
    axis = int(site.attr("axis", 0)) % len(x.shape)
    if axis not in x.varying:
        indices_rank = len(site.shape(1))
        shape = (*x.labels.shape[:axis], *(1,) * indices_rank, *x.labels.shape[axis + 1 :])
        site.emit(x.labels.reshape(shape))
        return
    indices = site.value(1)
    if indices is None or indices.ndim > 1:
        detail = "picks channels by an index that the cut cannot follow"
        site.freeze(x.labels, FreezeReason.DYNAMIC_VALUE, detail)
        site.emit_frozen(FreezeReason.DYNAMIC_VALUE, detail)
        return
    site.emit(np.take(site.distinct(x.labels), indices % x.shape[axis], axis=axis))


def _mend_gather(mend: Mend) -> None:
    source = mend.node.inputs[0]
    if source not in mend.old_shapes or not mend.is_cut():
        return
    axis = int(mend.node.attr("axis", 0)) % len(mend.in_shape(0))
    kept = mend.kept(source, axis)
    before = mend.before.get(mend.node.inputs[1])
    if kept.all() or before is None:
        return
    indices = before % kept.size
    places = np.cumsum(kept) - 1
    if indices.ndim:
        indices = indices[kept[indices]]
    mend.inputs[1] = places[indices].astype(before.dtype)


# ---- Pad ------------------------------------------------------------------------------------


def _pad(site: Site) -> None:
    """Padding the channel axis makes slots that hold a constant: they may go with a neighbour.

    Slots that hold copies go with what they copy; negative amounts drop channels.
    """
    x = site.x(0)
    amounts = _pad_amounts(site, len(x.shape))
    if amounts is None:
        detail = "pads channels by an amount that is unknown before run time"
        if x.varying:
            site.freeze(x.labels, FreezeReason.DYNAMIC_VALUE, detail)
        site.emit_frozen(FreezeReason.DYNAMIC_VALUE, detail)
        return
    labels = x.labels
    for axis in range(len(x.shape)):
        before, after = amounts[axis]
        if (before, after) == (0, 0) or (axis not in x.varying and axis != 1):
            continue
        labels = Labelled(x.shape, labels).along((axis,)) if labels.shape[axis] == 1 else labels
        padded = _padded(site, labels, axis, amounts[axis])
        if padded is None:
            detail = "pads the channel axis by copies and crops it, or by more than it holds"
            site.freeze(x.labels, FreezeReason.MIXES_CHANNELS, detail)
            site.emit_frozen(FreezeReason.MIXES_CHANNELS, detail)
            return
        labels = padded
    site.emit(labels)


def _padded(site: Site, labels: IntArray, axis: int, amounts: tuple[int, int]) -> IntArray | None:
    """Labels with one axis padded; None where the copies would not follow a cut."""
    size, mode = labels.shape[axis], site.attr("mode", "constant")
    before, after = (max(0, amount) for amount in amounts)
    kept = labels.take(range(max(0, -amounts[0]), size - max(0, -amounts[1])), axis=axis)
    if mode == "constant" or max(amounts) <= 0:
        new = [_slots(site, labels, axis, count) for count in (before, after)]
        return np.concatenate([new[0], kept, new[1]], axis)
    if min(amounts) < 0 or max(amounts) >= size:
        return None
    if mode == "reflect":
        # the outermost channel is the mirror: another in its place would not be copied
        detail = "the outermost channel is where padding mirrors the others"
        for count, place in ((before, 0), (after, size - 1)):
            if count:
                labels_there = labels.take([place], axis=axis)
                site.freeze(labels_there, FreezeReason.MIXES_CHANNELS, detail)
    places = np.pad(np.arange(size), amounts, mode=mode)
    return site.distinct(labels.take(places, axis=axis))


def _slots(site: Site, labels: IntArray, axis: int, count: int) -> IntArray:
    shape = list(labels.shape)
    shape[axis] = count
    view = [1] * labels.ndim
    view[axis] = count
    return np.broadcast_to(site.fresh(count).reshape(view), shape)


def _pad_amounts(site: Site, rank: int) -> list[tuple[int, int]] | None:
    if site.opset < 11:
        flat = list(site.attr("pads") or site.attr("paddings"))
        axes = list(range(rank))
    else:
        pads, axes_value = site.value(1), site.value(3) if site.has(3) else None
        if pads is None or (site.has(3) and axes_value is None):
            return None
        flat = [int(amount) for amount in pads.reshape(-1)]
        axes = list(range(rank)) if axes_value is None else [int(a) % rank for a in axes_value]
    amounts = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        amounts[axis] = (flat[place], flat[place + len(axes)])
    return amounts


def _mend_pad(mend: Mend) -> None:
    """The amounts on a cut axis become the numbers of slots that stay on either side."""
    if not mend.is_cut():
        return
    source, out = mend.node.inputs[0], mend.node.outputs[0]
    rank = len(mend.in_shape(0))
    by_attribute = mend.opset < 11
    known = None if by_attribute else mend.known(1)
    given = mend.known(3) if mend.node.input(3) else None
    axes = [int(a) % rank for a in given.value] if given is not None else list(range(rank))
    original = mend.node.attr("pads") if by_attribute else mend.before[mend.node.inputs[1]]
    required = np.array(original, np.int64).copy()
    for place, axis in enumerate(axes):
        kept_in, kept_out = mend.kept(source, axis), mend.kept(out, axis)
        if not (kept_in.all() and kept_out.all()):
            after = place + len(axes)
            required[place] = _moved_amount(int(required[place]), kept_in, kept_out)
            required[after] = _moved_amount(int(required[after]), kept_in[::-1], kept_out[::-1])
    if known is None:
        mend.attributes["pads"] = required.tolist()
    else:
        mend.set_entries(1, required, required != known.value)


def _moved_amount(amount: int, kept_in: BoolArray, kept_out: BoolArray) -> int:
    """How many of the slots put before an axis stay, or how many of those dropped there."""
    return int(kept_out[:amount].sum()) if amount >= 0 else -int(kept_in[:-amount].sum())


RULES = (
    OpRule(("Concat",), _concat, "joins label arrays; along positions it ties them"),
    OpRule(("Split",), _split, "cuts label arrays; sizes are rewritten", _mend_split),
    OpRule(("Slice",), _slice, "cuts label arrays; bounds are rewritten", _mend_slice),
    OpRule(("Gather",), _gather, "takes channels by constant index", _mend_gather),
    OpRule(("Pad",), _pad, "a padded channel axis makes free slots or copies", _mend_pad),
)
