"""Entries of an axis that one node is to see as zero, whatever they are for everybody else.

    zeroed = Gather(Concat(x, x - x), p),  p_i = i where entry i stays, else its place in x - x

says so in operators of every operator set and without naming an element type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_scsp.types import BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Zeroed:
    """What one input of one node shall see.

    Attributes:
        axis: The axis.
        stays: Bool (axis length,): which entries are seen as they are.
    """

    axis: int
    stays: BoolArray


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
        for place, zeroed in by_node.get(node.output[0] if node.output else "", {}).items():
            before = _operators(node, place, zeroed)
            nodes.extend(before)
            node.input[place] = before[-1].output[0]
        nodes.append(node)
    kept = [node.SerializeToString() for node in nodes]
    del proto.graph.node[:]
    for data in kept:
        proto.graph.node.add().ParseFromString(data)


def _operators(node: onnx.NodeProto, place: int, zeroed: Zeroed) -> list[onnx.NodeProto]:
    x, base = node.input[place], f"{node.output[0]}__zeroed{place}"
    size = zeroed.stays.size
    entries = np.arange(size) + np.where(zeroed.stays, 0, size)
    zero, both, index = f"{base}_zero", f"{base}_both", f"{base}_index"
    return [
        helper.make_node("Constant", [], [index], value=numpy_helper.from_array(entries)),
        helper.make_node("Sub", [x, x], [zero]),
        helper.make_node("Concat", [x, zero], [both], axis=zeroed.axis),
        helper.make_node("Gather", [both, index], [base], axis=zeroed.axis),
    ]
