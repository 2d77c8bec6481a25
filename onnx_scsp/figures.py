"""Figures of a finished run: sizes, widths, seconds."""

from __future__ import annotations

import time

from onnx_scsp.couple import Coupling
from onnx_scsp.errors import ModelError
from onnx_scsp.graph.model import Model
from onnx_scsp.types import Cost, PrunePlan


def input_bytes(model: Model) -> int:
    """Bytes of a model's file and of its external data."""
    if model.path is None:
        raise ModelError("the model has no file")
    external = sum((model.folder / name).stat().st_size for name in model.external_files)
    return model.path.stat().st_size + external


def achieved(target: str, before: Cost, after: Cost, plan: PrunePlan) -> float:
    """What a budget named `target` came to, measured."""
    if target == "latency":
        known = plan.timing.get("latency", {})
        return float(known.get("measured", known.get("estimated", 0.0)))
    if target == "params":
        return after.params / max(before.params, 1)
    if target == "ratio":
        kept = {cut.group: len(cut.keep) for cut in plan.cuts}
        units = sum(group.n_units for group in plan.groups)
        return sum(kept.get(g.id, g.n_units) for g in plan.groups) / max(units, 1)
    return after.macs / max(before.macs, 1)


def layer_widths(before: Coupling, after: Coupling) -> dict[str, tuple[int, int]]:
    """Filters of every producing or per-channel layer, before and after."""
    left = {layer.node: layer.channels for layer in after.map.layers}
    return {
        layer.node: (layer.channels, left.get(layer.node, layer.channels))
        for layer in before.map.layers
    }


class Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends a stage."""
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 4)
        self._last = now
