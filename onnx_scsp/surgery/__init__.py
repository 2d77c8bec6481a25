"""plan -> patched model: merge, cut, mend, tidy. Knows nothing of clustering."""

from __future__ import annotations

from onnx_scsp.surgery.operate import operate

__all__ = ["operate"]
