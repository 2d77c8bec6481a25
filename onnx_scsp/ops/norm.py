"""Normalisation. Per-channel kinds scale channels; kinds that average over channels block them."""

from __future__ import annotations

from onnx_scsp.ops.blocking import block
from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason, IntArray


def _per_channel(site: Site) -> None:
    """BatchNormalization and InstanceNormalization: axis 1, one entry per channel and operand."""
    x = site.x(0)
    labels = site.vector(x, 1)
    for index in range(1, len(site.node.inputs)):
        site.scales(index, 0, labels)
    site.emit(_channel_view(labels, len(x.shape)))
    for index in range(1, len(site.node.outputs)):  # statistics of training mode
        if site.node.outputs[index]:
            detail = "its statistics outputs are in use (training mode)"
            site.freeze(labels, FreezeReason.GRAPH_OUTPUT, detail)


def _mixes(site: Site) -> None:
    detail = f"{site.node.op_type} normalises over channels, so removing one changes the others"
    block(site, detail)


def _group(site: Site) -> None:
    """GroupNormalization averages over the channels of a group: whole groups go, or none."""
    x, groups = site.x(0), int(site.attr("num_groups"))
    labels = site.vector(x, 1)
    rows = labels.reshape(groups, -1)
    site.tie(rows[:, :1], rows)
    for index in (1, 2):  # one entry per group before opset 21, then one per channel
        site.scales(index, 0, labels if site.shape(index)[0] == labels.size else rows[:, 0])
    site.curve(labels)
    site.emit(_channel_view(labels, len(x.shape)))


def _mend_group(mend: Mend) -> None:
    groups = int(mend.node.attr("num_groups"))
    kept = mend.kept(mend.node.inputs[0], 1)
    if not kept.all():
        mend.attributes["num_groups"] = int(kept.reshape(groups, -1).any(axis=1).sum())


def _last_axes(site: Site) -> None:
    """LayerNormalization and friends: blocks only labels on the axes it averages over."""
    x = site.x(0)
    axis = int(site.attr("axis", -1)) % len(x.shape)
    if any(place >= axis for place in x.varying):
        _mixes(site)
    else:
        site.curve(x.labels)
        site.emit(x.labels)


def _over_what_stays(site: Site) -> None:
    """LayerNormalization over channels, one scale each: a cut leaves statistics of what stays."""
    x = site.x(0)
    last = len(x.shape) - 1
    vectors = [index for index in (1, 2) if site.has(index)]
    followed = (
        x.varying == (last,)
        and int(site.attr("axis", -1)) % len(x.shape) == last
        and all(site.is_const(index) and len(site.shape(index)) == 1 for index in vectors)
        and not any(site.node.outputs[1:])
    )
    if not followed:
        _last_axes(site)
        return
    labels = site.vector(x, last)
    for index in vectors:
        site.scales(index, 0, labels)
    site.curve(labels)
    site.emit(labels.reshape((1,) * last + (-1,)))


def _local(site: Site) -> None:
    """LRN: whoever stays has the nearest that stay for neighbours."""
    x = site.x(0)
    if any(axis != 1 for axis in x.varying):
        _mixes(site)
        return
    labels = site.vector(x, 1)
    site.reduces(0, 1, labels, restricted=True)
    site.curve(labels)
    site.emit(_channel_view(labels, len(x.shape)))


def _over_axes(site: Site) -> None:
    """MeanVarianceNormalization."""
    x = site.x(0)
    axes = {int(axis) % len(x.shape) for axis in site.attr("axes", [0, 2, 3])}
    if axes & set(x.varying):
        _mixes(site)
    else:
        site.curve(x.labels)
        site.emit(x.labels)


def _by_length(site: Site) -> None:
    """LpNormalization: channels that are zero add nothing to the length that divides the others."""
    x = site.x(0)
    axis = int(site.attr("axis", -1)) % len(x.shape)
    if axis in x.varying:
        site.reduces(0, axis, site.vector(x, axis))
    site.curve(x.labels)
    site.emit(x.labels)


def _channel_view(labels: IntArray, rank: int) -> IntArray:
    return labels.reshape(1, -1, *(1,) * (rank - 2))


RULES = (
    OpRule(
        ("BatchNormalization", "InstanceNormalization"),
        _per_channel,
        "scales channels one by one",
    ),
    OpRule(
        ("LRN",),
        _mixes,
        "normalises over channels: they stay",
    ),
    OpRule(
        ("GroupNormalization",),
        _group,
        "channels of one group go together",
        _mend_group,
    ),
    OpRule(
        ("MeanVarianceNormalization",),
        _over_axes,
        "channels on the normalised axes stay; on other axes they pass",
    ),
    OpRule(
        ("LpNormalization",),
        _by_length,
        "over channels, those that go count as zero",
    ),
    OpRule(
        ("LayerNormalization", "RMSNormalization"),
        _last_axes,
        "channels on the normalised axes stay; on other axes they pass",
    ),
)

APPROXIMATE_RULES = (
    OpRule(
        ("LayerNormalization",),
        _over_what_stays,
        "normalises over the channels that stay",
    ),
    OpRule(
        ("LRN",),
        _local,
        "normalises over the neighbours that stay",
    ),
)
"""In place of the rules above, where a result need not be the original with channels masked."""
