"""Operators that sample positions or lay patches out: every channel on its own.

What says where to sample (a grid, regions, offsets) has channels of its own meaning, which stay.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.blocking import block, freeze_inputs
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason, IntArray

_WHERE = "its entries say where to sample"


def samples(site: Site) -> None:
    """GridSample, RoiAlign, MaxRoiPool: channels of input 0 lie on axis 1 and pass."""
    freeze_inputs(site, (0,), _WHERE, FreezeReason.BROADCAST)
    site.emit(_view(site.vector(site.x(0), 1), len(site.out_shape())))


def _deform_conv(site: Site) -> None:
    """W is (O, C/G, *kernel); offset and mask hold a set of places for each offset group."""
    if not site.is_const(1):
        block(site, "its weight is computed at run time", FreezeReason.COMPUTED_WEIGHT)
        site.hold(site.shape(1)[0], FreezeReason.COMPUTED_WEIGHT, "computed at run time")
        return
    freeze_inputs(site, (0, 1, 3), _WHERE, FreezeReason.BROADCAST)
    x, shape, groups = site.x(0), site.shape(1), int(site.attr("group", 1))
    incoming, out = site.vector(x, 1), site.fresh(shape[0])
    _tie_groups(site, incoming, int(site.attr("offset_group", 1)))
    outer = float(np.prod(site.out_shape()[2:]) * site.out_shape()[0] * np.prod(shape[2:]))
    if groups > 1 and shape[1] == 1:
        site.tie(np.repeat(incoming, shape[0] // groups), out)
        site.scales(1, 0, out)
        site.cost(outer, out)
    else:
        read = _tie_groups(site, incoming, groups)
        _tie_groups(site, out, groups)
        site.reads(1, 1, read)
        site.makes(1, 0, out)
        site.cost(outer, out, read)
    if site.has(3):
        site.scales(3, 0, out)
    site.emit(_view(out, len(x.shape)))


def _tie_groups(site: Site, channels: IntArray, groups: int) -> IntArray:
    """Ties position j of every group, so that an equal number stays in each."""
    rows = channels.reshape(groups, -1)
    site.tie(rows[:1], rows)
    return np.asarray(rows[0])


def _mend_deform_conv(mend: Mend) -> None:
    """A depthwise convolution has as many groups as it has input channels."""
    groups, channels = int(mend.node.attr("group", 1)), mend.in_shape(0)[1]
    if groups > 1 and mend.old_shapes[mend.node.inputs[0]][1] == groups and channels != groups:
        mend.attributes["group"] = channels


def _col2im(site: Site) -> None:
    """(N, C x block, L): the entries of one channel's block lie side by side and go together."""
    channels = site.out_shape()[1]
    blocks = site.vector(site.x(0), 1).reshape(channels, -1)
    site.tie(blocks[:, :1], blocks)
    site.emit(_view(blocks[:, 0], len(site.out_shape())))


def _center_crop_pad(site: Site) -> None:
    """Passes channels on axes whose size it leaves as it is."""
    x, out = site.x(0), site.out_shape()
    if any(x.shape[axis] != out[axis] for axis in x.varying):
        block(site, "crops or pads the channel axis around its middle")
        return
    site.emit(x.labels)


def _mend_center_crop_pad(mend: Mend) -> None:
    """Input 1 spells a size for each of `axes`."""
    if not mend.is_cut():
        return
    known = mend.known(1)
    if known is None:
        return
    shape = mend.out_shape()
    axes = list(mend.node.attr("axes") or range(len(shape)))
    required = np.array([shape[axis] for axis in axes], np.int64)
    changed = required != [mend.old_shapes[mend.node.outputs[0]][axis] for axis in axes]
    mend.set_entries(1, required, changed & (required != known.value))


def _affine_grid(site: Site) -> None:
    block(site, "turns matrices into places to sample", FreezeReason.BROADCAST)


def _max_unpool(site: Site) -> None:
    block(site, "its indices number places across all channels")


def _view(labels: IntArray, rank: int) -> IntArray:
    return labels.reshape(1, -1, *(1,) * (rank - 2))


RULES = (
    OpRule(
        ("GridSample", "RoiAlign", "MaxRoiPool"),
        samples,
        "every channel on its own; what says where to sample stays",
    ),
    OpRule(
        ("DeformConv",),
        _deform_conv,
        "makes channels, as Conv; offsets and masks stay",
        _mend_deform_conv,
    ),
    OpRule(("Col2Im",), _col2im, "ties the channels that become one block"),
    OpRule(
        ("CenterCropPad",),
        _center_crop_pad,
        "channels on axes of unchanged size pass; sizes rewritten",
        _mend_center_crop_pad,
    ),
    OpRule(("AffineGrid",), _affine_grid, "its output are places: they stay"),
    OpRule(("MaxUnpool",), _max_unpool, "indices number places across channels: they stay"),
)
