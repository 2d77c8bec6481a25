"""The smallest model within a tolerance, found by trial."""

from onnx_scsp.tolerance.limits import Tolerance, Trial
from onnx_scsp.tolerance.within import WithinTolerance, prune_within

__all__ = ["Tolerance", "Trial", "WithinTolerance", "prune_within"]
