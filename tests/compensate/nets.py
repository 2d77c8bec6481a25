"""Networks with planted channels that others can stand in for, and what a repair does to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from net_builder import Net

from onnx_scsp.compensate import Reconstruction, reconstruct
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.patch import overwrite
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.observe.layers import input_units
from onnx_scsp.surgery.cut import masked_readers

Batch = dict[str, np.ndarray]


def coupling_of(proto: onnx.ModelProto) -> Coupling:
    return find_coupling(from_proto(proto))


def double(n: Net, *values: str, blocks: int = 1) -> None:
    """Makes the second half of the channels (of every block of them) a copy of the first."""
    makers = {node.output[0]: node for node in n.nodes}
    for value in values:
        node = makers[value]
        for place, name in enumerate(node.input):
            if name in n.weights:
                array = n.weights[name]
                axis = _channel_axis(node, place, array.ndim)
                if axis is not None:
                    moved = np.moveaxis(array, axis, 0)
                    for block in np.split(moved, blocks):
                        half = len(block) // 2
                        block[half:] = block[:half]


def _channel_axis(node: onnx.NodeProto, place: int, rank: int) -> int | None:
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if rank == 1 or node.op_type == "Add":
        return rank - 1
    if node.op_type == "ConvTranspose":
        return 1 if attrs.get("group", 1) == 1 else 0
    if node.op_type == "Gemm":
        return 0 if attrs.get("transB", 0) else 1
    return {"Conv": 0, "MatMul": 1}.get(node.op_type)


def second_halves(width: int, blocks: int = 1) -> np.ndarray:
    """The channels that `double` makes copies."""
    size = width // blocks
    return np.arange(width) % size >= size // 2


def without(coupling: Coupling, value: str, gone: Iterable[Any]) -> np.ndarray:
    """Which units stay when some channels (axis 1) of an activation go."""
    chosen = np.asarray(gone)
    width = coupling.walk.walker.shapes[value][1]
    mask = chosen if chosen.dtype == bool else np.isin(np.arange(width), chosen)
    units = input_units(coupling, value, width, 1)
    assert (units[mask] >= 0).all(), "the channels are held"
    keep = np.ones(coupling.n_units, bool)
    keep[units[mask]] = False
    return keep


def images(count: int, *shape: int, seed: int = 0, size: int = 16, name: str = "x") -> list[Batch]:
    """Random inputs in batches."""
    rng = np.random.default_rng(seed)
    rest = shape or (3, 8, 8)
    every = rng.standard_normal((count, *rest)).astype(np.float32)
    return [{name: every[start : start + size]} for start in range(0, count, size)]


@dataclass(frozen=True)
class Repair:
    """A repair and how far the outputs are from the original's, on new inputs.

    Attributes:
        before: Largest difference with the cut alone, relative to the largest output.
        after: The same with the repair.
        found: The repair.
    """

    before: float
    after: float
    found: Reconstruction


def repair(coupling: Coupling, keep: np.ndarray, batches: list[Batch], **options: Any) -> Repair:
    """Repairs, and runs original, cut and repaired network side by side."""
    count = sum(len(next(iter(batch.values()))) for batch in batches)
    found = reconstruct(coupling, keep, batches, count, **options)
    cut = masked_readers(coupling, keep)
    rng = np.random.default_rng(99)
    feeds = {
        name: rng.permuted(array, axis=0) + 0.3 * rng.standard_normal(array.shape)
        for name, array in batches[0].items()
    }
    feeds = {name: array.astype(batches[0][name].dtype) for name, array in feeds.items()}
    outputs = [_outputs(coupling, values, feeds) for values in ({}, cut, {**cut, **found.weights})]
    return Repair(_gap(outputs[0], outputs[1]), _gap(outputs[0], outputs[2]), found)


def _outputs(coupling: Coupling, values: dict[str, np.ndarray], feeds: Batch) -> Batch:
    proto = onnx.ModelProto()
    proto.CopyFrom(coupling.model.proto)
    for name, array in values.items():
        overwrite(proto, name, array)
    with open_variant(proto, coupling.model) as session:
        return run_session(session, feeds)


def _gap(left: Batch, right: Batch) -> float:
    return max(
        float(np.abs(left[name].astype(float) - right[name]).max() / np.abs(left[name]).max())
        for name in left
    )
