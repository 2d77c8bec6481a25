"""Operators that sample positions or lay patches out: every channel on its own.

What says where to sample (a grid, regions, offsets) has channels of its own meaning, which stay.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops import conv
from onnx_scsp.ops.blocking import block, freeze_inputs
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule, rule_of
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason, IntArray

_CONV = rule_of(conv.RULES, "Conv")
_WHERE = "its entries say where to sample"


def samples(site: Site) -> None:
    """GridSample, RoiAlign, MaxRoiPool: channels of input 0 lie on axis 1 and pass."""
    freeze_inputs(site, (0,), _WHERE, FreezeReason.BROADCAST)
    site.emit(_view(site.vector(site.x(0), 1), len(site.out_shape())))


def _deform_conv(site: Site) -> None:
    """As Conv; offset and mask hold a set of places for each offset group."""
    freeze_inputs(site, (0, 1, 3), _WHERE, FreezeReason.BROADCAST)
    offset_groups = site.vector(site.x(0), 1).reshape(int(site.attr("offset_group", 1)), -1)
    site.tie(offset_groups[:1], offset_groups)
    _CONV.couple(site.seen_as("Conv", (0, 1, 3)))


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
        _CONV.mend,
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
