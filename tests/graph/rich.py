"""One valid, runnable model that uses as many fields of the ONNX schema as it can."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from graph.small import conv_net, initializers, tensor

_FLOAT = TensorProto.FLOAT
NOT_UTF8 = b"\xff\xfe\x80 not text"


def rich_model(*, reads_sequence: bool = False) -> onnx.ModelProto:
    """`conv_net` with side branches that read the input, and every kind of annotation."""
    proto = conv_net(ir_version=10, opset=18)
    proto.producer_name, proto.producer_version = "a trainer", "1.2.3"
    proto.domain, proto.model_version, proto.doc_string = "org.example", 42, "model doc"
    proto.metadata_props.add(key="author", value="somebody")
    proto.opset_import.append(helper.make_opsetid("local", 3))
    proto.opset_import.append(helper.make_opsetid("com.example.unused", 1))
    proto.functions.append(_function())
    proto.training_info.append(_training())
    _annotate(proto.graph)
    _storage(proto.graph)
    _side_branches(proto.graph, reads_sequence)
    _value_infos(proto.graph)
    return proto


def _function() -> onnx.FunctionProto:
    function = helper.make_function(
        "local",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"], "inner", doc_string="inner doc")],
        [helper.make_opsetid("", 18)],
        attributes=["unused"],
    )
    function.doc_string = "function doc"
    function.metadata_props.add(key="origin", value="exporter")
    return function


def _training() -> onnx.TrainingInfoProto:
    one = tensor(np.ones(1, np.float32), "one")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["one"], ["step_next"], "step")],
        "algorithm",
        [],
        [helper.make_tensor_value_info("step_next", _FLOAT, [1])],
        [one],
    )
    info = onnx.TrainingInfoProto(algorithm=graph)
    info.update_binding.add(key="fc.spare", value="step_next")
    return info


def _annotate(graph: onnx.GraphProto) -> None:
    graph.doc_string = "graph doc"
    graph.metadata_props.add(key="stage", value="trained")
    for node in graph.node:
        node.doc_string = f"doc of {node.name}"
        node.metadata_props.add(key="module", value=f"net.{node.name}")
    image = graph.input[0]
    image.doc_string = "pixels"
    image.type.denotation = "IMAGE"
    image.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    image.metadata_props.add(key="range", value="0..1")
    graph.output[0].doc_string = "scores"
    note = graph.quantization_annotation.add(tensor_name="image")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="image.scale")
    graph.initializer.append(tensor(np.array(0.5, np.float32), "image.scale"))


def _storage(graph: onnx.GraphProto) -> None:
    """fc.b in float_data, an unused spare weight, doc strings and metadata on tensors."""
    by_name = {item.name: item for item in graph.initializer}
    bias = by_name["fc.b"]
    values = np.frombuffer(bias.raw_data, np.float32).tolist()
    bias.ClearField("raw_data")
    bias.float_data.extend(values)
    bias.doc_string = "untouched bias"
    bias.metadata_props.add(key="kind", value="bias")
    weight = by_name["conv2.w"]
    weight.doc_string = "touched weight"
    weight.metadata_props.add(key="kind", value="weight")
    graph.initializer.append(tensor(np.arange(1, dtype=np.float32), "fc.spare"))
    sparse = graph.sparse_initializer.add()
    sparse.dims.extend([8])
    sparse.values.CopyFrom(tensor(np.array([1.5, -2.0], np.float32), "sparse"))
    sparse.indices.CopyFrom(tensor(np.array([1, 6], np.int64), "sparse_indices"))


def _side_branches(graph: onnx.GraphProto, reads_sequence: bool) -> None:
    """Optional, Sequence, If, Loop and a local function, none of which sees a pruned channel."""
    graph.initializer.extend(
        [
            tensor(np.array(0, np.int64), "zero"),
            tensor(np.array(2, np.int64), "trips"),
            tensor(np.array(True), "yes"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Identity", ["image"], ["image_copy"], "copy"),
            helper.make_node("Optional", ["image_copy"], ["optional"], "optional"),
            helper.make_node("OptionalGetElement", ["optional"], ["unwrapped"], "unwrap"),
            helper.make_node("SequenceConstruct", ["unwrapped"], ["sequence"], "sequence"),
            helper.make_node("SequenceAt", ["sequence", "zero"], ["first"], "first")
            if reads_sequence
            else helper.make_node("Identity", ["unwrapped"], ["first"], "first"),
            helper.make_node(
                "If", ["yes"], ["chosen"], "branch", then_branch=_body(2.0), else_branch=_body(3.0)
            ),
            helper.make_node("Loop", ["trips", "yes", "chosen"], ["looped"], "loop", body=_loop()),
            helper.make_node("Double", ["looped"], ["doubled"], "double", domain="local"),
            helper.make_node("Add", ["doubled", "sparse"], ["with_sparse"], "add_sparse"),
            helper.make_node("Add", ["with_sparse", "first"], ["side"], "side"),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("side", _FLOAT, ["batch", 3, 8, 8]))


def _body(factor: float) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Mul", ["image_copy", "factor"], ["scaled"], "scale")],
        f"times_{factor:g}",
        [],
        [helper.make_tensor_value_info("scaled", _FLOAT, None)],
        [tensor(np.array(factor, np.float32), "factor")],
        doc_string="branch doc",
    )


def _loop() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Identity", ["go"], ["go_on"], "go"),
        helper.make_node("Add", ["carried", "image_copy"], ["carried_on"], "more"),
    ]
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried", _FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried_on", _FLOAT, None),
    ]
    return helper.make_graph(nodes, "body", inputs, outputs)


def _value_infos(graph: onnx.GraphProto) -> None:
    shape = ["batch", 3, 8, 8]
    image = helper.make_tensor_type_proto(_FLOAT, shape)
    kinds = {
        "image_copy": image,
        "optional": helper.make_optional_type_proto(image),
        "sequence": helper.make_sequence_type_proto(image),
        "first": image,
        "chosen": image,
        "doubled": image,
        "conv1": helper.make_tensor_type_proto(_FLOAT, ["batch", 8, 8, 8]),
        "conv2": helper.make_tensor_type_proto(_FLOAT, ["batch", 12, 8, 8]),
    }
    for name, kind in kinds.items():
        info = helper.make_value_info(name, kind, f"doc of {name}")
        info.type.denotation = "FEATURES"
        info.metadata_props.add(key="seen", value=name)
        graph.value_info.append(info)
    graph.value_info[-1].type.tensor_type.shape.dim[1].denotation = "DATA_CHANNEL"


def odd_model() -> onnx.ModelProto:
    """`conv_net` beside a custom operator with attributes of every type; no runtime knows it."""
    proto = conv_net(ir_version=10, opset=18)
    proto.opset_import.append(helper.make_opsetid("org.custom", 1))
    node = helper.make_node("Strange", ["image"], ["strange"], "strange", domain="org.custom")
    ints = tensor(np.arange(3), "t")
    sparse = onnx.SparseTensorProto(dims=[4], values=ints, indices=ints)
    graph = helper.make_graph([helper.make_node("Neg", ["image"], ["n"])], "g", [], [])
    kind = helper.make_tensor_type_proto(_FLOAT, [None, 3])
    for name, value in {
        "bytes": NOT_UTF8,
        "strings": [b"ok", NOT_UTF8],
        "float": 1.5,
        "floats": [0.1, 0.2],
        "int": -7,
        "ints": [1, 2, 3],
        "tensor": ints,
        "tensors": [ints, ints],
        "sparse": sparse,
        "sparses": [sparse],
        "graph": graph,
        "graphs": [graph, graph],
        "type": kind,
        "types": [kind],
    }.items():
        attribute = helper.make_attribute(name, value)
        attribute.doc_string = f"doc of {name}"
        node.attribute.append(attribute)
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_tensor_value_info("strange", _FLOAT, ["batch", 3]))
    return proto


def overridable(ir_version: int) -> onnx.ModelProto:
    """`conv_net` with initializers listed as inputs: all before IR 4, some from there on."""
    proto = conv_net(ir_version=ir_version, opset=8 if ir_version == 3 else 17)
    names = set(initializers(proto)) if ir_version == 3 else {"conv2.w", "conv2.b", "fc.b"}
    for item in proto.graph.initializer:
        if item.name in names:
            info = helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
            info.doc_string = f"override {item.name}"
            proto.graph.input.append(info)
    return proto
