"""Reading a model file, with one clear sentence for each way in which that can fail.

A model is untrusted input: external data must be plain files below the model's folder, and nothing
in the file is executed.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.fields import outline
from onnx_scsp.graph.model import Model, byte_count, external_entries, is_external
from onnx_scsp.graph.view import view

_CHUNK_BYTES = 1 << 22
_FIELDS = MappingProxyType(
    {
        onnx.TensorProto.DataType.Value(name): field
        for field, names in (
            ("float_data", "FLOAT"),
            ("double_data", "DOUBLE"),
            ("int64_data", "INT64"),
            ("uint64_data", "UINT32 UINT64"),
            ("int32_data", "BOOL FLOAT16 BFLOAT16 INT8 INT16 INT32 UINT8 UINT16"),
        )
        for name in names.split()
    }
)
"""Element type -> the field that holds its values, one entry each, where they are no bytes."""


def load(path: str | os.PathLike[str], *, checked: bool = True) -> Model:
    """Reads and checks an ONNX file; weights in external files stay where they are.

    Args:
        path: The `.onnx` file.
        checked: Whether the ONNX checker has to accept it.

    Returns:
        The model as read.

    Raises:
        ModelError: The file is missing, is no valid ONNX model, or its external data is missing.
    """
    file = Path(path)
    _require_file(file)
    proto, digest = _parse(file)
    _check_names(proto, file)
    external = _external_files(proto, file)
    if checked:
        _check(file if external else outline(proto).SerializeToString(), file)
    for tensor in tensors_of(proto):
        _check_size(tensor, file)
    for location in sorted(external):
        digest.update(_file_digest(file.parent / location).digest())
    return Model(
        proto=proto,
        path=file,
        sha256=digest.hexdigest(),
        external_files=external,
        is_stored=True,
    )


def from_proto(proto: onnx.ModelProto) -> Model:
    """Wraps a model that exists only in memory (no external data).

    Args:
        proto: The model; it must not be changed afterwards.

    Returns:
        A model without a path.

    Raises:
        ModelError: A tensor points to an external file.
    """
    if any(is_external(tensor) for tensor in tensors_of(proto)):
        raise ModelError("a model in memory cannot refer to external data; load it from its file")
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return Model(proto=proto, path=None, sha256=digest)


def _require_file(file: Path) -> None:
    try:
        if not file.exists():
            raise ModelError(f"{file}: no such file; give the path of an .onnx model")
        if file.is_dir():
            raise ModelError(f"{file} is a directory; give the path of an .onnx file")
        if not file.is_file():
            raise ModelError(f"{file} is no plain file; give the path of an .onnx file")
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error


def _check_size(tensor: onnx.TensorProto, file: Path) -> None:
    """Not every version of the checker counts the values."""
    field = _FIELDS.get(tensor.data_type, "")
    if is_external(tensor):
        return  # see `_check_extent`
    if tensor.HasField("raw_data"):
        held, needed, unit = len(tensor.raw_data), byte_count(tensor), "bytes"
    elif field:
        held, needed, unit = len(getattr(tensor, field)), math.prod(tensor.dims), "values"
    else:
        return
    if held != needed:
        raise ModelError(
            f"{file}: tensor '{tensor.name}' holds {held} {unit}, its shape and type need {needed}"
        )


def _parse(file: Path) -> tuple[onnx.ModelProto, hashlib._Hash]:
    """The model, and the hash of its file, which another thread finds meanwhile."""
    proto = onnx.ModelProto()
    try:
        content = file.read_bytes()
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(hashlib.sha256, content)
            proto.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(
            f"{file} is not a readable ONNX model (truncated, or another format)"
        ) from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{file} is not an ONNX model: it holds no graph or no operator set")
    return proto, digest.result()


def _check_names(proto: onnx.ModelProto, file: Path) -> None:
    """Protobuf hands out text that is not UTF-8 as bytes, or fails when it is read."""
    try:
        graph = view(proto)
        names = {item.name for item in (*tensors_of(proto), *proto.graph.value_info)}
        names |= {*graph.inputs, *graph.outputs, *graph.consumers, *graph.producers}
        names |= {name for node in graph.nodes for name in (node.name, node.op_type, node.domain)}
        is_text = all(isinstance(name, str) for name in names)
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise ModelError(f"{file} is not a valid ONNX model: a name in it is not UTF-8 text")


def _check(content: Path | bytes, file: Path) -> None:
    """The ONNX checker; it has to find data files beside a model that has some."""
    try:
        onnx.checker.check_model(content if isinstance(content, bytes) else str(content))
    except Exception as error:  # the checker raises several unrelated types
        sentence = " ".join(str(error).split())[:300]
        raise ModelError(f"{file} fails the ONNX checker: {sentence}") from error


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: initializers and attributes, in subgraphs, functions, training graphs too."""
    yield from _graph_tensors(proto.graph)
    for info in proto.training_info:
        yield from _graph_tensors(info.initialization)
        yield from _graph_tensors(info.algorithm)
    for function in proto.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        elif attribute.type == onnx.AttributeProto.TENSORS:
            yield from attribute.tensors
        elif attribute.type == onnx.AttributeProto.GRAPH:
            yield from _graph_tensors(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


def _external_files(proto: onnx.ModelProto, file: Path) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for tensor in tensors_of(proto):
        if not is_external(tensor):
            continue
        location = external_entries(tensor).get("location", "")
        if location not in found:
            _check_location(location, tensor.name, file)
            found[location] = None
        _check_extent(tensor, file)
    return tuple(found)


def _check_location(location: str, tensor: str, file: Path) -> None:
    relative = Path(location)
    root = file.parent.resolve()
    if not location or relative.is_absolute() or ".." in relative.parts:
        raise ModelError(
            f"{file}: tensor '{tensor}' points outside the model's folder ('{location}'); refused"
        )
    target = root / relative
    if not target.exists():
        raise ModelError(
            f"{file}: external data file '{location}' is missing; put it beside the model"
        )
    if target.is_symlink() or not target.resolve().is_relative_to(root) or not target.is_file():
        raise ModelError(f"{file}: external data '{location}' is not a plain file; refused")


def _check_extent(tensor: onnx.TensorProto, file: Path) -> None:
    entries = external_entries(tensor)
    needed = byte_count(tensor)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
    except ValueError as error:
        raise ModelError(
            f"{file}: tensor '{tensor.name}' has an external offset or length that is no number"
        ) from error
    if offset < 0 or length != needed:
        raise ModelError(
            f"{file}: tensor '{tensor.name}' claims {length} bytes of external data from byte "
            f"{offset}, its shape and type need {needed}"
        )
    size_bytes = (file.parent / entries["location"]).stat().st_size
    if offset + needed > size_bytes:
        raise ModelError(
            f"{file}: external data file '{entries['location']}' is too short for tensor "
            f"'{tensor.name}' ({size_bytes} bytes, {offset + needed} needed)"
        )


def _file_digest(file: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest
