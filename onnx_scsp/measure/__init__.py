"""two models -> latencies side by side, and the machine they were taken on."""

from __future__ import annotations

from onnx_scsp.measure.latency import benchmark
from onnx_scsp.measure.machine import machine_record

__all__ = ["benchmark", "machine_record"]
