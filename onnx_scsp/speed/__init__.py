"""Latency as a promise: budgets that are measured and met, and a gate for what is slower."""

from __future__ import annotations

from onnx_scsp.speed.gate import never_slower
from onnx_scsp.speed.gated import prune_gated
from onnx_scsp.speed.latency import LatencyResult, Meters, prune_to_latency
from onnx_scsp.speed.search import Latency, LatencyTrial

__all__ = [
    "Latency",
    "LatencyResult",
    "LatencyTrial",
    "Meters",
    "never_slower",
    "prune_gated",
    "prune_to_latency",
]
