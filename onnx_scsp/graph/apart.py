"""A model to be run whose large initializers lie beside it, as arrays.

The runtime takes such arrays as they are. In a message every weight would be copied into it, out of
it as bytes, and out of those again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnx_scsp.graph.constants import tensor_array
from onnx_scsp.graph.fields import (
    LARGE_BYTES,
    PLAIN_TYPES,
    fill,
    forget_location,
    require_type,
    without_initializers,
)
from onnx_scsp.graph.load import tensors_of
from onnx_scsp.graph.model import Model, byte_count, external_entries, is_external
from onnx_scsp.types import AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A model to be run.

    Attributes:
        proto: Initializers that lie apart have their type and shape here, and no values.
        arrays: Their values by name.
    """

    proto: onnx.ModelProto
    arrays: dict[str, AnyArray]


def variant_of(model: Model, without: Collection[str] = ()) -> Variant:
    """What the runtime needs of a model.

    Args:
        model: The model.
        without: Initializers whose values are not wanted, since others will be `put` there.

    Returns:
        A variant of the caller's own, with nothing in other files.
    """
    proto = without_initializers(model.proto, "training_info")
    for tensor in tensors_of(proto):
        _take_in(tensor, model.folder)
    arrays: dict[str, AnyArray] = {}
    for tensor in model.proto.graph.initializer:
        own = proto.graph.initializer.add()
        if not _lies_apart(tensor.data_type, byte_count(tensor)):
            own.CopyFrom(tensor)
            _take_in(own, model.folder)
            continue
        own.name = tensor.name
        _hollow(own, tensor.data_type, tensor.dims)
        if tensor.name not in without:
            arrays[tensor.name] = tensor_array(tensor, model.folder)
    return Variant(proto, arrays)


def put(variant: Variant, tensor: onnx.TensorProto, array: AnyArray) -> None:
    """Gives an initializer of a variant new values, in place.

    Args:
        variant: The variant.
        tensor: One of its initializers.
        array: The new values, of the tensor's type.

    Raises:
        InternalError: They are of another type.
    """
    if _lies_apart(tensor.data_type, array.nbytes):
        require_type(tensor, array)
        _hollow(tensor, tensor.data_type, array.shape)
        variant.arrays[tensor.name] = array
        return
    variant.arrays.pop(tensor.name, None)
    forget_location(tensor)
    fill(tensor, array)


def _lies_apart(elem_type: int, size_bytes: int) -> bool:
    return elem_type in PLAIN_TYPES and size_bytes >= LARGE_BYTES


def _hollow(tensor: onnx.TensorProto, elem_type: int, dims: Iterable[int]) -> None:
    """Leaves name, type and shape; the runtime takes values from elsewhere for an external one."""
    name, sizes = tensor.name, list(dims)
    tensor.Clear()
    tensor.name, tensor.data_type = name, elem_type
    tensor.dims.extend(sizes)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="beside")


def _take_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Reads values that lie in a file of the model's folder into the tensor."""
    if not is_external(tensor):
        return
    entries = external_entries(tensor)
    with (folder / entries["location"]).open("rb") as stream:
        stream.seek(int(entries.get("offset", 0)))
        tensor.raw_data = stream.read(byte_count(tensor))
    forget_location(tensor)
