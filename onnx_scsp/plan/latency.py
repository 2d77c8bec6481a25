"""Latency as a function of the pools' counts, for the allocation to weigh.

    ms = rest + sum_node ms(node) prod_axis curve(node, axis)[count(axis)]

where a curve is 1 at the layer's full width. Measured here, a node's milliseconds come from the
runtime's profile of the model, and its curves are the machine table's staircases: what the kept
channels cost over what all of them do. For a device that is not here, both come from the device
table. What is no layer (activations, additions, pooling) shrinks with its channels.

The planner weighs a step by the time that it saves; its gradient is the mean cost per channel,
curve[c] / c, so that a step on flat ground is not taken for one that saves nothing forever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.view import NodeView
from onnx_scsp.plan.cost import CostModel, Pool
from onnx_scsp.plan.widths import LayerKind, layer_kinds
from onnx_scsp.timing import DeviceTable, LayerShape, LayerTimes, MachineTable
from onnx_scsp.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """One node's share of the latency.

    Attributes:
        ms: Milliseconds at full width.
        vectors: Global units along its axes.
        curves: For each axis float64 (size + 1,): share of the time that is left with so many.
    """

    ms: float
    vectors: tuple[IntArray, ...]
    curves: tuple[FloatArray, ...]


class LayerClock(Protocol):
    """Says how long the nodes of a model take."""

    def timed(self, coupling: Coupling) -> tuple[list[Timed], float]:
        """The nodes, and the milliseconds that none of them answers for."""


class LatencyModel(CostModel):
    """Latency for many counts at once."""

    def __init__(self, timed: Sequence[Timed], rest_ms: float, pools: list[Pool], n: int) -> None:
        terms = [(node.ms, node.vectors) for node in timed]
        super().__init__([*terms, (rest_ms, ())], pools, n)
        longest = max((curve.size for node in timed for curve in node.curves), default=1)
        rows: dict[bytes, int] = {}
        curves: list[FloatArray] = [np.ones(longest)]
        self._curve = np.zeros(self._place.shape, np.int64)
        for index, node in enumerate(timed):
            for axis, curve in enumerate(node.curves):
                key = curve.tobytes()
                if key not in rows:
                    rows[key] = len(curves)
                    curves.append(np.pad(curve, (0, longest - curve.size), mode="edge"))
                self._curve[index, axis] = rows[key]
        self._curves = np.array(curves)

    def _factors(self, counts: FloatArray) -> FloatArray:
        whole = np.clip(np.rint(counts[self._place]).astype(np.int64), 0, self._curves.shape[1] - 1)
        return np.asarray(self._curves[self._curve, whole])

    def _slopes(self, counts: FloatArray) -> FloatArray:
        return np.asarray(self._factors(counts) / np.maximum(counts[self._place], 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class ProfileClock:
    """Times of the model itself, and what widths cost on the same machine.

    Attributes:
        times: Milliseconds per node.
        machine: Staircases.
    """

    times: LayerTimes
    machine: MachineTable

    def timed(self, coupling: Coupling) -> tuple[list[Timed], float]:
        """See `LayerClock`."""
        kinds = layer_kinds(coupling)
        found, known = [], set()
        for term in coupling.costs:
            if term.node in self.times.ms and term.node not in known:
                known.add(term.node)
                found.append(self._layer(self.times.ms[term.node], term.vectors, kinds[term.node]))
        rest = self.times.rest_ms
        for node in coupling.walk.graph.nodes:
            ms = self.times.ms.get(node.name, 0.0)
            if not ms or node.name in known:
                continue
            units = channel_units(coupling, node.outputs[0] if node.outputs else "")
            if units is None:
                rest += ms
            else:
                found.append(Timed(ms, (units,), (np.arange(units.size + 1) / units.size,)))
        return found, rest

    def _layer(self, ms: float, vectors: tuple[IntArray, ...], layer: LayerKind) -> Timed:
        if layer.kind == "grouped":
            vectors = vectors[:1]  # a group's width stands for what it reads and what it makes
        stairs = self.machine.kinds[layer.kind]
        curves = []
        for vector in vectors:
            cost = [stairs.channels(count / layer.groups) for count in range(vector.size + 1)]
            curves.append(np.array(cost) / max(cost[-1], 1e-12))
        return Timed(ms, vectors, tuple(curves))


@dataclass(frozen=True, slots=True, eq=False)
class DeviceClock:
    """Times by a table of single layers.

    Attributes:
        table: The table.
    """

    table: DeviceTable

    def timed(self, coupling: Coupling) -> tuple[list[Timed], float]:
        """See `LayerClock`.

        Raises:
            ConfigError: The table has no row for a kind of layer.
        """
        kinds = layer_kinds(coupling)
        nodes = {node.name: node for node in coupling.walk.graph.nodes}
        found = []
        for term in coupling.costs:
            node, layer = nodes[term.node], kinds[term.node]
            sizes = [vector.size for vector in term.vectors]

            def spent(axis: int, count: int) -> float:
                widths = tuple(count if a == axis else s for a, s in enumerate(sizes))  # noqa: B023
                return self.table.ms(layer_shape(coupling, node, layer, widths))  # noqa: B023

            ms = self.table.ms(layer_shape(coupling, node, layer, tuple(sizes)))
            vectors = term.vectors[:1] if layer.kind == "grouped" else term.vectors
            curves = [
                np.array([0.0, *(spent(axis, c) / ms for c in range(1, sizes[axis] + 1))])
                for axis in range(len(vectors))
            ]
            found.append(Timed(ms, vectors, tuple(curves)))
        return found, 0.0


def layer_shape(
    coupling: Coupling, node: NodeView, layer: LayerKind, sizes: tuple[int, ...]
) -> LayerShape:
    """A node as a device table sees it.

    Args:
        coupling: The model.
        node: The node.
        layer: Its kind.
        sizes: Entries along the vectors of its MACs.

    Returns:
        Its shape at those widths.
    """
    out = coupling.walk.walker.shapes.get(node.outputs[0], ())
    if layer.kind == "matmul" and (node.op_type != "Conv"):
        rows = float(np.prod(out[:-1])) if out else 1.0
        width, fan = (*sizes, 1, 1)[:2]
        return LayerShape("matmul", fan, width, 1.0, 1.0, sqrt(max(rows, 1.0)))
    weight = coupling.walk.constants.shape(node.input(1))
    stride = float((node.attr("strides", [1]) or [1])[0])
    spatial = sqrt(max(float(np.prod(out[2:])), 1.0))
    width = sizes[0]
    if layer.kind == "depthwise":
        return LayerShape("depthwise", width, width, weight[2], stride, spatial, width)
    fan = sizes[1] if len(sizes) > 1 else weight[1]
    if layer.kind == "grouped":
        fan = width if len(sizes) < 2 else weight[1] * layer.groups * width // max(weight[0], 1)
        return LayerShape("grouped", max(fan, 1), width, weight[2], stride, spatial, layer.groups)
    return LayerShape(layer.kind, fan, width, float(weight[2]), stride, spatial)


def channel_units(coupling: Coupling, value: str) -> IntArray | None:
    """Global units along the axis of a value that has the most of them, None where none has."""
    labels = coupling.activations.get(value)
    shape = coupling.walk.walker.shapes.get(value)
    if labels is None or not shape or not labels.size or labels.max() < 0:
        return None
    axis = int(np.argmax(labels.shape))
    moved = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)[:, 0]
    return moved if moved.size > 1 else None


def latency_model(coupling: Coupling, pools: list[Pool], clock: LayerClock) -> LatencyModel:
    """Milliseconds as a function of the pools' counts."""
    timed, rest_ms = clock.timed(coupling)
    return LatencyModel(timed, rest_ms, pools, coupling.n_units)
