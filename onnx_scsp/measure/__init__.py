"""two models -> latencies side by side, where the time goes, memory, and the machine."""

from __future__ import annotations

from onnx_scsp.measure.latency import Sweep, bench_sweep, benchmark
from onnx_scsp.measure.machine import machine_record
from onnx_scsp.measure.records import BenchReport

__all__ = ["BenchReport", "Sweep", "bench_sweep", "benchmark", "machine_record"]
