"""What operator functions see of a node, and what the table says about an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from onnx_scsp.errors import UnsupportedError
from onnx_scsp.graph.view import NodeView
from onnx_scsp.types import AnyArray

ADDING = "CONTRIBUTING.md says how to add one"

DTYPES: Mapping[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.BOOL: torch.bool,
}
"""ONNX element type -> torch's."""


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One node, as its function sees it.

    Attributes:
        label: `name (op)` for messages.
        attributes: Attribute name -> Python data; tensors are arrays.
        opset: Version of the operator set that the model imports for the node's domain.
        wanted: For each output whether something names it.
        training: Whether batch statistics and dropout are on.
    """

    label: str
    attributes: Mapping[str, Any]
    opset: int
    wanted: tuple[bool, ...]
    training: bool

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        return self.attributes.get(name, default)

    def wants(self, place: int) -> bool:
        """Whether output `place` is named."""
        return place < len(self.wanted) and self.wanted[place]

    def unsupported(self, what: str) -> UnsupportedError:
        """The error for a form of the operator that its function does not cover."""
        return UnsupportedError(f"node {self.label}: {what} has no PyTorch function; {ADDING}")


@dataclass(frozen=True, slots=True)
class Entry:
    """How one operator is computed.

    Attributes:
        run: Function of (op, *operands); absent operands are None. Returns a tensor or a tuple.
        host: Places of operands that it takes as numpy arrays: shapes, axes, amounts.
        either: Places of operands that it takes as they come: numpy where they are known on the
            host, tensors otherwise.
        weights: Places where a stored floating-point constant is a Parameter.
        statistics: Places where it is a running statistic.
        operand_weight: Whether a per-channel constant at any place is a Parameter.
    """

    run: Callable[..., Any]
    host: frozenset[int] = frozenset()
    either: frozenset[int] = frozenset()
    weights: frozenset[int] = frozenset()
    statistics: frozenset[int] = frozenset()
    operand_weight: bool = False


def entry(
    run: Callable[..., Any],
    *,
    host: tuple[int, ...] = (),
    either: tuple[int, ...] = (),
    weights: tuple[int, ...] = (),
    statistics: tuple[int, ...] = (),
    operand_weight: bool = False,
) -> Entry:
    """Spells an `Entry` with tuples."""
    return Entry(
        run,
        frozenset(host),
        frozenset(either),
        frozenset(weights),
        frozenset(statistics),
        operand_weight,
    )


def make_op(node: NodeView, opset: int, *, training: bool) -> Op:
    """Decodes a node's attributes once."""
    attributes = {
        attribute.name: _decoded(node.attr(attribute.name)) for attribute in node.proto.attribute
    }
    wanted = tuple(bool(name) for name in node.outputs)
    return Op(node.label, attributes, opset, wanted, training)


def _decoded(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [text.decode("utf-8", "replace") for text in value]
    return value


def ints(values: Any) -> list[Any]:
    """Entries of a host array (or of a list attribute) as Python integers, or torch's symbols."""
    if isinstance(values, np.ndarray):
        return list(values.reshape(-1).tolist())
    return list(values)


def to_tensor(array: AnyArray, device: Any = None) -> Tensor:
    """A numpy array as a tensor of its own memory."""
    array = np.asarray(array, order="C")
    if array.dtype == object:
        return _symbolic_tensor(array, device)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).to(device)
    tensor = torch.from_numpy(array.copy())
    # torch.export writes no empty tensor that has memory
    return (tensor if array.size else torch.empty_like(tensor)).to(device)


def _symbolic_tensor(array: AnyArray, device: Any) -> Tensor:
    """Sizes that torch.export keeps open, as a tensor."""
    parts = [
        torch.scalar_tensor(value, dtype=torch.int64, device=device) for value in array.reshape(-1)
    ]
    return torch.stack(parts).reshape(array.shape) if parts else torch.zeros(0, dtype=torch.int64)


def to_host(tensor: Tensor) -> AnyArray:
    """A tensor's values as a numpy array."""
    flat = tensor.detach().cpu()
    if flat.dtype == torch.bfloat16:
        return np.asarray(flat.float().numpy())
    return np.asarray(flat.numpy())
