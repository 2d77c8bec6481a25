"""Entries of an axis that one node is not to see, whatever they are for everybody else.

    zeroed = Gather(Concat(x, x - x), p),   p_i = i where entry i stays, else its place in x - x
    restricted = Gather(x, K),              K the entries that stay

say so in operators of every operator set and without naming an element type. What keeps the axis
(LRN, a window that slides over it) is put back the first way: zeros where nothing stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_scsp.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Zeroed:
    """What one input of one node shall see.

    Attributes:
        axis: The axis.
        stays: Bool (axis length,): which entries are seen as they are.
        restricted: Whether the others are left out; else they are seen as zero.
    """

    axis: int
    stays: BoolArray
    restricted: bool = False


def zero_entries(proto: onnx.ModelProto, places: Mapping[tuple[str, int], Zeroed]) -> None:
    """Puts the operators above before nodes of a proto, in place.

    Args:
        proto: A proto of the caller's own.
        places: (First output of a node, input place) -> what it shall see.
    """
    if not places:
        return
    by_node: dict[str, dict[int, Zeroed]] = {}
    for (out, place), zeroed in places.items():
        by_node.setdefault(out, {})[place] = zeroed
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        behind: list[onnx.NodeProto] = []
        for place, zeroed in by_node.get(node.output[0] if node.output else "", {}).items():
            before = _before(node, place, zeroed)
            nodes.extend(before)
            node.input[place] = before[-1].output[0]
            kept = slack(node, zeroed.axis) if zeroed.restricted else None
            if kept is not None:
                inner = zeroed.stays[kept[0] : zeroed.stays.size - kept[1]]
                behind = _put_back(node, inner, zeroed.axis)
        nodes.extend((node, *behind))
    copies = [node.SerializeToString() for node in nodes]
    del proto.graph.node[:]
    for data in copies:
        proto.graph.node.add().ParseFromString(data)


def slack(node: onnx.NodeProto, axis: int) -> tuple[int, int] | None:
    """How many entries of an axis lie before and behind those that a node keeps in their order.

    Args:
        node: A node of the default domain.
        axis: An axis of its input.

    Returns:
        (0, 0) for LRN. For an AveragePool whose windows of 2r + 1 entries, one step apart, slide
        over the axis, r less what it pads: the first window's centre is the first entry that is
        kept. None for everything else.
    """
    if node.op_type == "LRN":
        return 0, 0
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    count, place = len(given.get("kernel_shape", ())), axis - 2
    if node.op_type != "AveragePool" or not 0 <= place < count:
        return None
    window = given["kernel_shape"][place]
    steps = [given.get(name, [1] * count)[place] for name in ("strides", "dilations")]
    first, last = given.get("pads", [0] * 2 * count)[place::count]
    radius = window // 2
    if window % 2 == 0 or steps != [1, 1] or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    return (radius - first, radius - last) if max(first, last) <= radius else None


def take(x: str, out: str, entries: IntArray, axis: int) -> list[onnx.NodeProto]:
    """Nodes for `out = Gather(x, entries)`."""
    index = f"{out}_index"
    return [
        helper.make_node("Constant", [], [index], value=numpy_helper.from_array(entries)),
        helper.make_node("Gather", [x, index], [out], axis=axis),
    ]


def _before(node: onnx.NodeProto, place: int, zeroed: Zeroed) -> list[onnx.NodeProto]:
    x, base = node.input[place], f"{node.output[0]}__seen{place}"
    if zeroed.restricted:
        return take(x, base, np.flatnonzero(zeroed.stays), zeroed.axis)
    size = zeroed.stays.size
    return _with_zeros(x, base, np.arange(size) + np.where(zeroed.stays, 0, size), zeroed.axis)


def _put_back(node: onnx.NodeProto, stays: BoolArray, axis: int) -> list[onnx.NodeProto]:
    out = node.output[0]
    node.output[0] = f"{out}__inner"
    places = np.cumsum(stays) - 1
    entries = np.where(stays, places, int(stays.sum()))
    return _with_zeros(node.output[0], out, entries, axis)


def _with_zeros(x: str, out: str, entries: IntArray, axis: int) -> list[onnx.NodeProto]:
    """Entries of x, or of as many zeros behind them."""
    zero, both = f"{out}_zero", f"{out}_both"
    return [
        helper.make_node("Sub", [x, x], [zero]),
        helper.make_node("Concat", [x, zero], [both], axis=axis),
        *take(both, out, entries, axis),
    ]
