"""Ifs as exporters write them: a size is compared, one branch squeezes, the other hands on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from net_builder import Net
from onnx import TensorProto, helper, numpy_helper


def branch(
    x: str,
    *moves: tuple[str, Sequence[int] | None],
    sizes: Sequence[int | str | None] | None = None,
) -> onnx.GraphProto:
    """A body that runs operators on a value of the graph around it, one behind another."""
    nodes, given = [], x
    for op_type, axes in moves:
        operands, attributes = [given], {}
        given = f"{op_type.lower()}{len(nodes)}_of_{x}"
        if op_type == "Transpose":
            attributes["perm"] = axes
        elif axes is not None:
            operands.append(f"{given}_axes")
            tensor = numpy_helper.from_array(np.array(axes, np.int64))
            nodes.append(helper.make_node("Constant", [], [operands[-1]], value=tensor))
        nodes.append(helper.make_node(op_type, operands, [given], **attributes))
    output = helper.make_tensor_value_info(given, TensorProto.FLOAT, sizes)
    return helper.make_graph(nodes, "body", [], [output])


def size_is(n: Net, x: str, axis: int, size: int) -> str:
    """Whether an axis has a certain size, worked out as the run goes."""
    of_axis = n.op("Gather", n.op("Shape", x), n.const([axis]), axis=0)
    return str(n.op("Equal", of_axis, n.const([size])))


def choose(n: Net, condition: str, yes: onnx.GraphProto, no: onnx.GraphProto) -> str:
    return str(n.op("If", condition, then_branch=yes, else_branch=no))


def squeeze(n: Net, x: str, axis: int) -> str:
    """`x.squeeze(axis)` as the TorchScript exporter writes it."""
    yes = branch(x, ("Squeeze", [axis]))
    return choose(n, size_is(n, x, axis, 1), yes, branch(x, ("Identity", None)))


def there_and_back(n: Net, x: str) -> str:
    """An axis more, and less again by an If."""
    return squeeze(n, n.op("Unsqueeze", x, n.const([1])), 1)
