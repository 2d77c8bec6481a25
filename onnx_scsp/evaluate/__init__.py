"""What a model is worth: a user's own metric, top-1, and how far two models are apart."""

from onnx_scsp.evaluate.gaps import Gaps
from onnx_scsp.evaluate.hook import evaluate
from onnx_scsp.evaluate.labels import read_labels
from onnx_scsp.evaluate.metrics import Comparison, agreement, compare, divergence, top1
from onnx_scsp.evaluate.predictor import Predictor

__all__ = [
    "Comparison",
    "Gaps",
    "Predictor",
    "agreement",
    "compare",
    "divergence",
    "evaluate",
    "read_labels",
    "top1",
]
