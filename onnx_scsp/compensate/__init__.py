"""Repairing what a cut lost, in closed form, most of it from a few unlabelled inputs."""

from onnx_scsp.compensate.aftermath import prepare_aftermath
from onnx_scsp.compensate.repairs import REPAIRS, Job, Repair
from onnx_scsp.compensate.sweep import LayerFit, Reconstruction, reconstruct

__all__ = [
    "REPAIRS",
    "Job",
    "LayerFit",
    "Reconstruction",
    "Repair",
    "prepare_aftermath",
    "reconstruct",
]
