"""Entries of an axis that one node is not to see, whatever they are for everybody else.

    zeroed = Gather(Concat(x, x - x), p),   p_i = i where entry i stays, else its place in x - x
    restricted = Gather(x, K),              K the entries that stay

say so in operators of every operator set and without naming an element type. What keeps the axis
(LRN) is put back the first way: zeros where nothing stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_scsp.types import BoolArray, IntArray

_KEEPS_AXIS = frozenset({"LRN"})


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
            if zeroed.restricted and node.op_type in _KEEPS_AXIS:
                behind = _put_back(node, zeroed)
        nodes.extend((node, *behind))
    kept = [node.SerializeToString() for node in nodes]
    del proto.graph.node[:]
    for data in kept:
        proto.graph.node.add().ParseFromString(data)


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


def _put_back(node: onnx.NodeProto, zeroed: Zeroed) -> list[onnx.NodeProto]:
    out = node.output[0]
    node.output[0] = f"{out}__inner"
    places = np.cumsum(zeroed.stays) - 1
    entries = np.where(zeroed.stays, places, int(zeroed.stays.sum()))
    return _with_zeros(node.output[0], out, entries, zeroed.axis)


def _with_zeros(x: str, out: str, entries: IntArray, axis: int) -> list[onnx.NodeProto]:
    """Entries of x, or of as many zeros behind them."""
    zero, both = f"{out}_zero", f"{out}_both"
    return [
        helper.make_node("Sub", [x, x], [zero]),
        helper.make_node("Concat", [x, zero], [both], axis=axis),
        *take(both, out, entries, axis),
    ]
