"""onnx_scsp: structured channel pruning of exported CNNs, .onnx in, .onnx out.

The flow, one folder per stage:

    graph -> couple -> describe, observe -> partition -> plan -> compensate -> surgery -> proof
          -> measure -> report

Every public name is imported on first use, so that `import onnx_scsp` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from onnx_scsp.calibration import Preprocess, open_calibration
    from onnx_scsp.config import PruneConfig, VerifyConfig
    from onnx_scsp.couple import find_groups
    from onnx_scsp.errors import ScspError
    from onnx_scsp.graph.load import load
    from onnx_scsp.inputs import read_inputs
    from onnx_scsp.measure import BenchReport, Sweep, bench_sweep, benchmark
    from onnx_scsp.ops import RULES, OpRule, rule_table
    from onnx_scsp.pipeline import (
        apply_plan,
        make_plan,
        prune,
        save,
        save_plan,
        verify,
    )
    from onnx_scsp.plan import Choices, plan_from_json, plan_to_json, read_plan
    from onnx_scsp.results import PrunedModel, PruneResult
    from onnx_scsp.speed import Latency, prune_gated, prune_to_latency
    from onnx_scsp.tolerance import Tolerance, prune_within

_HOMES = {
    "BenchReport": "onnx_scsp.measure",
    "Choices": "onnx_scsp.plan",
    "Latency": "onnx_scsp.speed",
    "OpRule": "onnx_scsp.ops",
    "Preprocess": "onnx_scsp.calibration",
    "PruneConfig": "onnx_scsp.config",
    "PruneResult": "onnx_scsp.results",
    "PrunedModel": "onnx_scsp.results",
    "RULES": "onnx_scsp.ops",
    "ScspError": "onnx_scsp.errors",
    "Sweep": "onnx_scsp.measure",
    "Tolerance": "onnx_scsp.tolerance",
    "VerifyConfig": "onnx_scsp.config",
    "apply_plan": "onnx_scsp.pipeline",
    "bench_sweep": "onnx_scsp.measure",
    "benchmark": "onnx_scsp.measure",
    "find_groups": "onnx_scsp.couple",
    "load": "onnx_scsp.graph.load",
    "make_plan": "onnx_scsp.pipeline",
    "open_calibration": "onnx_scsp.calibration",
    "plan_from_json": "onnx_scsp.plan",
    "plan_to_json": "onnx_scsp.plan",
    "prune": "onnx_scsp.pipeline",
    "prune_gated": "onnx_scsp.speed",
    "prune_to_latency": "onnx_scsp.speed",
    "prune_within": "onnx_scsp.tolerance",
    "read_inputs": "onnx_scsp.inputs",
    "read_plan": "onnx_scsp.plan",
    "rule_table": "onnx_scsp.ops",
    "save": "onnx_scsp.pipeline",
    "save_plan": "onnx_scsp.pipeline",
    "verify": "onnx_scsp.pipeline",
}

__all__ = [
    "RULES",
    "BenchReport",
    "Choices",
    "Latency",
    "OpRule",
    "Preprocess",
    "PruneConfig",
    "PruneResult",
    "PrunedModel",
    "ScspError",
    "Sweep",
    "Tolerance",
    "VerifyConfig",
    "apply_plan",
    "bench_sweep",
    "benchmark",
    "find_groups",
    "load",
    "make_plan",
    "open_calibration",
    "plan_from_json",
    "plan_to_json",
    "prune",
    "prune_gated",
    "prune_to_latency",
    "prune_within",
    "read_inputs",
    "read_plan",
    "rule_table",
    "save",
    "save_plan",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnx_scsp' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
