"""A loaded model: the proto as it was read, never changed, and where it came from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import onnx

_BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}
"""Bits per element of the types whose names do not say them."""
_LIGHT_BYTES = 1 << 28
"""Up to which size of the weights a model is held in memory more than once at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model as loaded.

    Attributes:
        proto: The parsed file. Nothing in this package writes to it.
        path: The file it came from, or None for a model that exists only in memory.
        sha256: Hash of the file (and of its external data files, if any).
        external_files: External data files, relative to the model's folder, in first-use order.
        is_stored: Whether the file at `path` holds this very proto.
    """

    proto: onnx.ModelProto
    path: Path | None
    sha256: str
    external_files: tuple[str, ...] = ()
    is_stored: bool = False

    @property
    def folder(self) -> Path:
        """Folder that external data locations are relative to."""
        return self.path.parent if self.path is not None else Path()

    @property
    def opsets(self) -> dict[str, int]:
        """Imported operator set version by domain; the default domain is ''."""
        return {_domain(entry.domain): entry.version for entry in self.proto.opset_import}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes live in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def external_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """The tensor's external data record: location, offset, length, checksum."""
    return {entry.key: entry.value for entry in tensor.external_data}


def byte_count(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's values in raw storage; types narrower than a byte are packed."""
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    width = re.search(r"\d+", kind)
    bits = _BITS.get(kind, int(width[0]) if width else 0)
    return -(-int(math.prod(tensor.dims)) * bits // 8)


def is_light(model: Model) -> bool:
    """Whether several copies of the weights at a time cost no memory that anybody would miss."""
    return sum(byte_count(tensor) for tensor in model.proto.graph.initializer) < _LIGHT_BYTES
