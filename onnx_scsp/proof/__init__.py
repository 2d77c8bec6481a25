"""original + result -> report: structure, masked twin, permutation, fidelity."""

from __future__ import annotations

from onnx_scsp.proof.ahead import look_ahead, look_further
from onnx_scsp.proof.suite import verify_files

__all__ = ["look_ahead", "look_further", "verify_files"]
