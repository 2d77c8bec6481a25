"""Reading and setting the fields of protos, each as the others of its kind are set."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import helper, numpy_helper

from onnx_scsp.errors import InternalError
from onnx_scsp.graph.model import byte_count, external_entries, is_external
from onnx_scsp.types import AnyArray

PLAIN_TYPES = frozenset(
    onnx.TensorProto.DataType.Value(name)
    for name in (
        "FLOAT DOUBLE FLOAT16 BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64"
    ).split()
)
"""Element types of numbers that ONNX stores as numpy does; the runtime takes them from there."""
LARGE_BYTES = 1 << 12
"""Smaller values may be shapes, which whoever reads a graph wants to see."""
_VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
"""Fields that hold a tensor's numbers."""


def merge_but(target: Message, source: Message, *names: str) -> None:
    """Copies all fields of a message but some, without looking at these."""
    for field, value in source.ListFields():
        if field.name in names:
            continue
        if hasattr(value, "MergeFrom"):  # messages, and whatever is repeated
            getattr(target, field.name).MergeFrom(value)
        else:
            setattr(target, field.name, value)


def without_initializers(proto: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """A copy of a model but for the initializers of its graph and some fields of its own."""
    copy = onnx.ModelProto()
    merge_but(copy, proto, "graph", *names)
    merge_but(copy.graph, proto.graph, "initializer")
    return copy


def copy_without(proto: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """A copy of a model in which some initializers have no values yet.

    What a message has once held stays in its memory until it goes, so what will be replaced should
    never be there. Fields that this version of ONNX does not know only a plain copy keeps.
    """
    parts = (proto, proto.graph, *proto.graph.initializer)
    if any(len(UnknownFieldSet(part)) for part in parts):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        return copy
    copy = without_initializers(proto)
    for tensor in proto.graph.initializer:
        left_out = _VALUES if tensor.name in names else ()
        merge_but(copy.graph.initializer.add(), tensor, *left_out)
    return copy


def outline(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which large initializers that are stored as they should be are empty.

    Those are of plain numbers, all of them in `raw_data`, and as many as the shape says.
    """
    copy = without_initializers(proto)
    for tensor in proto.graph.initializer:
        own = copy.graph.initializer.add()
        if not _is_plain(tensor):
            own.CopyFrom(tensor)
            continue
        merge_but(own, tensor, "raw_data", "dims")
        own.dims.append(0)
    return copy


def _is_plain(tensor: onnx.TensorProto) -> bool:
    size_bytes = byte_count(tensor)
    return (
        size_bytes >= LARGE_BYTES
        and tensor.data_type in PLAIN_TYPES
        and all(size >= 0 for size in tensor.dims)
        and len(tensor.raw_data) == size_bytes
        and not any(len(getattr(tensor, field)) for field in _VALUES[1:])
    )


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Every name in use, inside subgraph bodies too: a fresh name must not be shadowed there."""
    names = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    for node in graph.node:
        names |= set(node.input) | set(node.output) | {node.name}
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= all_names(inner) if inner.ByteSize() else set()
    return names


def names_read(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, and those that its subgraph bodies read."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= names_read(inner)
            names |= {output.name for output in graph.output}
    return names


def fill(tensor: onnx.TensorProto, array: AnyArray) -> None:
    """Replaces a tensor's data and shape; name, type, doc string and metadata stay."""
    require_type(tensor, array)
    raw_data = _raw_data(array, tensor.data_type)
    location = external_entries(tensor).get("location") if is_external(tensor) else None
    for field_name in _VALUES:
        tensor.ClearField(field_name)
    forget_location(tensor)
    tensor.dims[:] = list(array.shape)
    tensor.raw_data = raw_data
    if location is not None:
        # still marks where the tensor belongs; `save` moves the bytes out again
        tensor.external_data.add(key="location", value=location)


def forget_location(tensor: onnx.TensorProto) -> None:
    """Makes a tensor hold its values itself, which the caller has to put there."""
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def require_type(tensor: onnx.TensorProto, array: AnyArray) -> None:
    """New values have to be of a tensor's type.

    Raises:
        InternalError: They are not.
    """
    if int(helper.np_dtype_to_tensor_dtype(array.dtype)) != tensor.data_type:
        raise InternalError(f"tensor '{tensor.name}' would change its type")


def _raw_data(array: AnyArray, elem_type: int) -> bytes:
    """Bytes of an array; plain numbers are not copied into a message first."""
    if elem_type in PLAIN_TYPES and sys.byteorder == "little" and array.dtype.isnative:
        return array.tobytes()
    return bytes(numpy_helper.from_array(np.asarray(array, order="C")).raw_data)


def set_constant(node: onnx.NodeProto, array: AnyArray) -> None:
    """Replaces the value of a Constant node."""
    for attribute in node.attribute:
        if attribute.name == "value":
            fill(attribute.t, array)
            return
    value = numpy_helper.from_array(np.asarray(array, order="C"))
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("value", value))


def set_filling(node: onnx.NodeProto, array: AnyArray) -> None:
    """Replaces what a ConstantOfShape node fills its output with."""
    if array.size:
        set_attribute(node, "value", numpy_helper.from_array(array.reshape(-1)[:1]))


def is_uniform(array: AnyArray) -> bool:
    """Whether all entries are the same."""
    return bool(array.size == 0 or (array == array.reshape(-1)[0]).all())


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Sets a node's attribute; None removes it."""
    for index, attribute in enumerate(node.attribute):
        if attribute.name == name:
            if value is None:
                del node.attribute[index]
                return
            doc = attribute.doc_string
            attribute.CopyFrom(helper.make_attribute(name, value))
            if doc:
                attribute.doc_string = doc
            return
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def set_dims(value: onnx.ValueInfoProto, sizes: Mapping[int, int]) -> None:
    """Sets the declared sizes of some axes."""
    dims = value.type.tensor_type.shape.dim
    for axis, size in sizes.items():
        if axis < len(dims):
            dims[axis].dim_value = size
