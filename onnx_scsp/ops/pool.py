"""Pooling and resampling: every channel on its own."""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.blocking import block_unknown
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason


def _per_channel(site: Site) -> None:
    """Windows slide over axes 2 and up; labels must not vary there."""
    x = site.x(0)
    if any(axis >= 2 for axis in x.varying):
        labels = site.vector(x, 1).reshape(1, -1, *(1,) * (len(x.shape) - 2))
    else:
        labels = x.labels
    site.emit(labels)
    if any(site.node.outputs[1:]):
        detail = "its second output numbers places across all channels"
        site.freeze(x.labels, FreezeReason.MIXES_CHANNELS, detail)
        site.emit(x.labels, 1)


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
