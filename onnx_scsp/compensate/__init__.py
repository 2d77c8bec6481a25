"""Repairing what a cut lost, in closed form, from a few unlabelled inputs."""

from onnx_scsp.compensate.sweep import LayerFit, Reconstruction, reconstruct

__all__ = ["LayerFit", "Reconstruction", "reconstruct"]
