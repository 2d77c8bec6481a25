"""Pooling and resampling: every channel on its own.

A window may also slide over channels that lie on one of its axes, as in local response
normalisation written out (square, pad, average over neighbours, divide). With windows of 2r + 1,

    y_c = mean of x_(c-r) .. x_(c+r),

no channel goes without changing its neighbours. On request (`--approximate`) the windows run over
what stays, as those of LRN do: whoever stays has the nearest that stay for neighbours.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.graph.zeroing import slack
from onnx_scsp.ops.blocking import block, block_unknown
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason

_WINDOW = (
    "{} slides a window over channels, as a normalisation over neighbours does, so removing one "
    "changes the others"
)
_EDGE = "lies at the edge of a window over channels"


def _per_channel(site: Site) -> None:
    """Windows slide over axes 2 and up; labels must not vary where they do."""
    x = site.x(0)
    slid = [axis for axis in x.varying if _slides(site, axis)]
    if slid and 1 not in x.varying:
        block(site, _WINDOW.format(site.node.op_type))
        return
    if slid:
        site.emit(site.vector(x, 1).reshape(1, -1, *(1,) * (len(x.shape) - 2)))
    else:
        site.emit(x.labels)
    if any(site.node.outputs[1:]):
        detail = "its second output numbers places across all channels"
        site.freeze(x.labels, FreezeReason.MIXES_CHANNELS, detail)
        site.emit(x.labels, 1)


def _slides(site: Site, axis: int) -> bool:
    """Whether windows join or move entries of an axis."""
    if axis < 2:
        return False
    kernel = site.attr("kernel_shape")
    if kernel is None:  # a global pool
        return True
    place, count = axis - 2, len(kernel)
    stride = (site.attr("strides") or [1] * count)[place]
    pads = (site.attr("pads") or [0] * 2 * count)[place::count]
    return bool(kernel[place] != 1 or stride != 1 or any(pads))


def _over_neighbours(site: Site) -> None:
    """AveragePool over channels: windows of an odd number of them, one step apart."""
    x = site.x(0)
    axis = x.varying[0] if len(x.varying) == 1 else 1
    margin = slack(site.node.proto, axis) if _slides(site, axis) else None
    if margin is None:
        _per_channel(site)
        return
    first, last = margin
    labels = site.vector(x, axis)
    inner = labels[first : labels.size - last]
    if not inner.size or site.out_shape()[axis] != inner.size:
        _per_channel(site)
        return
    # no window has these for its centre; where a norm is written out they are padding
    for edge in (labels[:first], labels[labels.size - last :]):
        if edge.size:
            site.freeze(edge, FreezeReason.MIXES_CHANNELS, _EDGE)
    site.reduces(0, axis, labels, restricted=True)
    site.curve(labels)
    view = [1] * len(x.shape)
    view[axis] = -1
    site.emit(inner.reshape(view))


def _resize(site: Site) -> None:
    """Resizing an axis that carries channels blocks them."""
    if block_unknown(site, 3):
        return
    x, out = site.x(0), site.out_shape()
    if any(x.shape[axis] != out[axis] for axis in x.varying):
        detail = "resizes the channel axis"
        site.freeze(x.labels, FreezeReason.MIXES_CHANNELS, detail)
        site.emit_frozen(FreezeReason.MIXES_CHANNELS, detail)
        return
    site.emit(x.labels)


def _mend_resize(mend: Mend) -> None:
    """`sizes` (input 3) spells every axis of the output."""
    if not mend.is_cut() or not mend.node.input(3):
        return
    known = mend.known(3)
    if known is None or mend.node.has_attr("axes"):
        return
    required = np.array(mend.out_shape(), np.int64)
    changed = required != np.array(mend.old_shapes[mend.node.outputs[0]])
    mend.set_entries(3, required, changed & (required != known.value))


RULES = (
    OpRule(
        (
            "MaxPool",
            "AveragePool",
            "LpPool",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "GlobalLpPool",
        ),
        _per_channel,
        "every channel on its own",
    ),
    OpRule(
        ("Resize", "Upsample"), _resize, "every channel on its own; sizes rewritten", _mend_resize
    ),
)

APPROXIMATE_RULES = (
    OpRule(
        ("AveragePool",),
        _over_neighbours,
        "every channel on its own; a window over channels runs over the neighbours that stay",
    ),
)
"""In place of the rules above, where a result need not be the original with channels masked."""
