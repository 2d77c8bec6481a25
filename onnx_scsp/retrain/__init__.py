"""Through PyTorch and back: the only layer that imports torch. Importing this package does not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from onnx_scsp.retrain.options import RetrainConfig
from onnx_scsp.retrain.result import RetrainResult
from onnx_scsp.retrain.schedules import SCHEDULES, Schedule

if TYPE_CHECKING:
    from onnx_scsp.retrain.recipe import soft_retrain

__all__ = ["SCHEDULES", "RetrainConfig", "RetrainResult", "Schedule", "soft_retrain"]


def __getattr__(name: str) -> Any:
    if name != "soft_retrain":
        raise AttributeError(f"module 'onnx_scsp.retrain' has no attribute '{name}'")
    from onnx_scsp.retrain.require import require_extra

    require_extra()
    return import_module("onnx_scsp.retrain.recipe").soft_retrain
