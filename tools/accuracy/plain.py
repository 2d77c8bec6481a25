"""The same network in words that onnx2torch and Torch-Pruning understand.

Each of these was needed for a packaged network to be prunable at all: Constant nodes, Identities
and Reshapes of constants become initializers, an Add of a constant per channel after a Conv becomes
its bias, a MatMul of two axes becomes a Gemm (which is converted to a Linear, a MatMul is not), and
SAME_UPPER padding at stride 1, which does not depend on the size of the input, is spelled out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def constants(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers and the values of Constant nodes, by name (copies)."""
    found = {}
    for tensor in proto.graph.initializer:
        found[tensor.name] = onnx.TensorProto()
        found[tensor.name].CopyFrom(tensor)
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = found[node.output[0]] = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
    return found


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrites a network as the module's docstring says.

    Args:
        proto: The network; it is changed.

    Returns:
        The same object.
    """
    graph = proto.graph
    values = constants(proto)
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        constant = node.op_type == "Constant" and node.output[0] in values
        same = node.op_type == "Identity" and node.input[0] in values
        shaped = node.op_type == "Reshape" and all(name in values for name in node.input)
        if same and node.output[0] not in outputs:
            values[node.output[0]] = _copy(values[node.input[0]], node.output[0])
        elif shaped:
            array, shape = (numpy_helper.to_array(values[name]) for name in node.input)
            values[node.output[0]] = numpy_helper.from_array(array.reshape(shape), node.output[0])
        elif not constant:
            _spell_padding(node)
            kept.append(node)
    kept = _merge_biases(kept, values, outputs)
    _make_gemms(proto, kept, values)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    graph.initializer.extend(tensor for name, tensor in values.items() if name in read)
    return proto


def _copy(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copied = onnx.TensorProto()
    copied.CopyFrom(tensor)
    copied.name = name
    return copied


def _spell_padding(node: Any) -> None:
    found = {attribute.name: attribute for attribute in node.attribute}
    strides = found["strides"].ints if "strides" in found else [1]
    if "auto_pad" not in found or found["auto_pad"].s != b"SAME_UPPER" or max(strides) > 1:
        return
    kernel = found["kernel_shape"].ints
    spread = found["dilations"].ints if "dilations" in found else [1] * len(kernel)
    totals = [step * (size - 1) for step, size in zip(spread, kernel, strict=True)]
    pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    node.attribute.remove(found["auto_pad"])
    node.attribute.append(onnx.helper.make_attribute("pads", pads))


def _merge_biases(
    nodes: list[Any], values: dict[str, onnx.TensorProto], outputs: set[str]
) -> list[Any]:
    """Drops each Add whose constant can be the bias of the Conv before it."""
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    makers = {node.output[0]: node for node in nodes if node.op_type == "Conv"}
    kept = []
    for node in nodes:
        bias = next((name for name in node.input if name in values), "")
        data = next((name for name in node.input if name not in values), "")
        conv = makers.get(data)
        alone = conv is not None and len(conv.input) == 2 and readers[data] == 1
        if node.op_type != "Add" or not bias or not alone or data in outputs:
            kept.append(node)
            continue
        array = numpy_helper.to_array(values[bias])
        channels = values[conv.input[1]].dims[0] if conv.input[1] in values else -1
        if array.size != channels or array.ndim < 3 or array.shape[-3] != channels:
            kept.append(node)
            continue
        name = f"{bias}/bias"
        values[name] = numpy_helper.from_array(np.ascontiguousarray(array.reshape(-1)), name)
        conv.input.append(name)
        del makers[data]
        conv.output[0] = node.output[0]
        makers[conv.output[0]] = conv
    return kept


def _make_gemms(
    proto: onnx.ModelProto, nodes: list[Any], values: dict[str, onnx.TensorProto]
) -> None:
    """MatMul of a matrix with a constant matrix -> Gemm."""
    infos = onnx.shape_inference.infer_shapes(proto).graph.value_info
    ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in infos}
    for node in nodes:
        weight = values.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and len(weight.dims) == 2 and ranks.get(node.input[0]) == 2:
            node.op_type = "Gemm"
