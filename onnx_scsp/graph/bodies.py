"""Sizes that the bodies of a node (If, Loop, Scan) declare."""

from __future__ import annotations

import onnx


def forget_sizes(node: onnx.NodeProto) -> None:
    """Drops, in place, every size that the node's bodies declare; how many axes there are stays.

    A cut value that bodies read makes them wrong, in the branch that never runs as well, and the
    runtime derives them by itself.
    """
    for attribute in node.attribute:
        own = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else []
        for body in (*own, *attribute.graphs):
            del body.value_info[:]
            for output in body.output:
                for dim in output.type.tensor_type.shape.dim:
                    dim.Clear()
            for inner in body.node:
                forget_sizes(inner)
