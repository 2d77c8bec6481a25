"""Calibration data: images, arrays or a user's function -> batches for one model."""

from onnx_scsp.calibration.data import CalibrationData
from onnx_scsp.calibration.hooks import load_hook
from onnx_scsp.calibration.preprocess import Preprocess
from onnx_scsp.calibration.sources import Source, open_calibration

__all__ = ["CalibrationData", "Preprocess", "Source", "load_hook", "open_calibration"]
