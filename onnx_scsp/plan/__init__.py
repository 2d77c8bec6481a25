"""budget -> plan: how many units per group, who stays, the plan document."""

from __future__ import annotations

from onnx_scsp.plan.absorb import COMPENSATORS, Compensator
from onnx_scsp.plan.document import plan_from_json, plan_to_json, read_plan
from onnx_scsp.plan.importance import read_importance
from onnx_scsp.plan.method import Method, Pick, Tools
from onnx_scsp.plan.methods import METHODS
from onnx_scsp.plan.planner import Choices, plan_cuts

__all__ = [
    "COMPENSATORS",
    "METHODS",
    "Choices",
    "Compensator",
    "Method",
    "Pick",
    "Tools",
    "plan_cuts",
    "plan_from_json",
    "plan_to_json",
    "read_importance",
    "read_plan",
]
