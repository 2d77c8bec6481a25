"""Conv and ConvTranspose, in any number of spatial dimensions, dense, grouped and depthwise.

A grouped convolution with G groups keeps equally many channels in each, on both sides, wherever
they lie: its filters may read other positions in every group. (The transposed one ties position j
of every group: its weight holds the groups' filters side by side on one axis.)
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason, IntArray


def _conv(site: Site) -> None:
    """W is (O, C/G, *kernel)."""
    _convolve(site, 1)


def channels_last(site: Site) -> None:
    """The same weight, on images whose channels lie on the last axis."""
    _convolve(site, len(site.shape(0)) - 1)


def _convolve(site: Site, axis: int) -> None:
    if not _has_weight(site):
        return
    x, shape = site.x(0), site.shape(1)
    groups = int(site.attr("group", 1))
    out_channels, fan_in, kernel = shape[0], shape[1], int(np.prod(shape[2:]))
    incoming = site.vector(x, axis)
    outer = float(np.prod(site.out_shape()) // site.out_shape()[axis] * kernel)
    if groups > 1 and fan_in == 1:
        source = np.repeat(incoming, out_channels // groups)
        out = source if out_channels == groups else site.fresh(out_channels)
        site.tie(source, out)
        site.scales(1, 0, out)
        site.cost(outer, out)
    else:
        out = site.fresh(out_channels)
        rows = incoming.reshape(groups, -1)
        if groups > 1:
            site.balance(rows)
            site.balance(out.reshape(groups, -1))
        site.reads(1, 1, rows, across=0)
        site.makes(1, 0, out)
        site.cost(outer, out, rows[0])
    _bias(site, out)
    site.emit(out.reshape([-1 if place == axis else 1 for place in range(len(x.shape))]))


def _conv_transpose(site: Site) -> None:
    """W is (C, O/G, *kernel)."""
    if not _has_weight(site):
        return
    x, shape = site.x(0), site.shape(1)
    groups = int(site.attr("group", 1))
    in_channels, fan_out, kernel = shape[0], shape[1], int(np.prod(shape[2:]))
    incoming = site.vector(x, 1)
    outer = float(np.prod(x.shape[2:]) * x.shape[0] * kernel)
    if groups > 1 and in_channels == groups and fan_out == 1:
        out = incoming
        site.scales(1, 0, out)
        site.cost(outer, out)
    else:
        _across_groups(site, incoming, groups)
        out = site.fresh(groups * fan_out)
        made = _across_groups(site, out, groups)
        site.reads(1, 0, incoming)
        site.makes(1, 1, made)
        site.cost(outer, incoming, made)
    _bias(site, out)
    site.emit(out.reshape(1, -1, *(1,) * (len(x.shape) - 2)))


def _has_weight(site: Site) -> bool:
    if site.is_const(1):
        return True
    detail = "its weight is computed at run time"
    for index in range(len(site.node.inputs)):
        if site.has(index) and not site.is_const(index):
            site.freeze(site.x(index).labels, FreezeReason.COMPUTED_WEIGHT, detail)
    site.emit_frozen(FreezeReason.COMPUTED_WEIGHT, detail)
    site.hold(site.out_shape()[1], FreezeReason.COMPUTED_WEIGHT, detail)
    # every output value (Conv) or input value (ConvTranspose) meets one slice of the weight
    shape = site.out_shape() if site.node.op_type == "Conv" else site.shape(0)
    site.cost(float(np.prod(shape)) * float(np.prod(site.shape(1)[1:])))
    return False


def _across_groups(site: Site, channels: IntArray, groups: int) -> IntArray:
    """Ties position j of every group and returns the labels of one group's positions."""
    rows = channels.reshape(groups, -1)
    site.tie(rows[:1], rows)
    return np.asarray(rows[0])


def _bias(site: Site, out: IntArray) -> None:
    if site.has(2):
        site.scales(2, 0, out)


def _mend(mend: Mend) -> None:
    """A depthwise convolution has as many groups as it has input channels."""
    groups = int(mend.node.attr("group", 1))
    axis = -1 if mend.node.attr("channels_last", 0) else 1
    channels = mend.in_shape(0)[axis]
    if groups > 1 and mend.old_shapes[mend.node.inputs[0]][axis] == groups and channels != groups:
        mend.attributes["group"] = channels


RULES = (
    OpRule(("Conv",), _conv, "makes channels; dense, grouped, depthwise; 1-D, 2-D, 3-D", _mend),
    OpRule(("ConvTranspose",), _conv_transpose, "makes channels; dense, grouped, depthwise", _mend),
)
