"""original + result -> report: structure, masked twin, permutation, fidelity."""

from __future__ import annotations

from onnx_scsp.proof.suite import verify_files

__all__ = ["verify_files"]
