"""original + result -> report: structure, masked twin, permutation, fidelity."""

from __future__ import annotations

from onnx_scsp.proof.ahead import look_ahead
from onnx_scsp.proof.suite import verify_files

__all__ = ["look_ahead", "verify_files"]
