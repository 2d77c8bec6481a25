"""Timers that count instead of timing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.graph.model import Model
from onnx_scsp.measure.compare import Compare, Comparison
from onnx_scsp.plan.widths import layer_kinds
from onnx_scsp.timing import LayerTimes

Slowness = Callable[[str, int], float]
"""Kind of layer and its width -> how much slower than by its MACs."""
NOISE = 0.02


def even(_kind: str, _width: int) -> float:
    return 1.0


def odd_is_slow(kind: str, width: int) -> float:
    """What onnxruntime does to a depthwise chain whose width is no multiple of 4, and worse."""
    return 6.0 if kind in ("pointwise", "depthwise") and width % 4 else 1.0


def layer_ms(model: Model | Path, slowness: Slowness = even) -> dict[str, float]:
    """Milliseconds per layer: a million MACs each, times the slowness; none for the rest."""
    coupling = find_coupling(model if isinstance(model, Model) else onnx_scsp.load(model))
    kinds = layer_kinds(coupling)
    return {
        term.node: term.macs / 1e6 * slowness(kinds[term.node].kind, term.vectors[0].size)
        for term in coupling.costs
    }


def stopwatch(slowness: Slowness = even, rest_ms: float = 0.0) -> Compare:
    """Compares two models by `layer_ms`."""

    def compare(a: Model, b: Model | Path) -> Comparison:
        first, second = (rest_ms + sum(layer_ms(m, slowness).values()) for m in (a, b))
        ratio = second / first
        return Comparison(ratio, ratio - 0.005, ratio + 0.005, NOISE, first, second)

    return compare


def profile(slowness: Slowness = even, rest_ms: float = 0.0) -> Callable[[Model], LayerTimes]:
    return lambda model: LayerTimes(layer_ms(model, slowness), rest_ms, 1, "cpu")


def write(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return path
