"""Lifts an ONNX model into a torch module, without its source code."""

from onnx_scsp.retrain.lift.batch import Batch
from onnx_scsp.retrain.lift.module import Lifted, lift, missing_operators
from onnx_scsp.retrain.lift.names import decode, encode
from onnx_scsp.retrain.lift.op import to_tensor
from onnx_scsp.retrain.lift.table import OPERATORS

__all__ = [
    "OPERATORS",
    "Batch",
    "Lifted",
    "decode",
    "encode",
    "lift",
    "missing_operators",
    "to_tensor",
]
