"""What calibration inputs tell about a model: statistics of its layers and of its channels."""

from onnx_scsp.observe.evidence import LEVELS_AFTER, Evidence, PoolEvidence, gather_evidence
from onnx_scsp.observe.layers import Linear, linear_layers

__all__ = ["LEVELS_AFTER", "Evidence", "Linear", "PoolEvidence", "gather_evidence", "linear_layers"]
