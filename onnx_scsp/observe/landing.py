"""Where outputs land: behind a layer's normalisation or bias, in the sum that they join, at a ReLU.

    landing = s (y - m) + h + other        s, m, h: normalisation; other: the sum's other operand

A residual sum is what later layers see, so a layer can make up for what the other operand lost, and
an error counts relative to the sum's variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.view import GraphView
from onnx_scsp.observe.layers import Linear, handed_on
from onnx_scsp.types import FloatArray

_SMALLEST_SCALE = 1e-6
"""A channel that a normalisation scales by less carries nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Landing:
    """What follows one layer.

    Attributes:
        value: Name of the activation where the outputs land: the sum, or the layer's own output
            behind its normalisation or the bias that is added to it.
        other: Name of the sum's other operand, '' where there is no sum.
        scale: float64 (outputs,), s; ones where there is no normalisation.
        shift: float64 (outputs,), h - s m.
        rectified: Whether a ReLU is all that reads the value.
    """

    value: str
    other: str
    scale: FloatArray
    shift: FloatArray
    rectified: bool = False


def landing(graph: GraphView, constants: Constants, layer: Linear) -> Landing:
    """Follows a layer's outputs to where they land."""
    scale, shift, value = np.ones(layer.outputs), np.zeros(layer.outputs), layer.y
    if layer.norm is not None:
        gain, offset, mean, variance = (
            np.asarray(constants.array(name), np.float64).reshape(-1)
            for name in layer.norm.inputs[1:5]
        )
        scale = gain / np.sqrt(variance + float(layer.norm.attr("epsilon", 1e-5)))
        shift = offset - scale * mean
        value = layer.norm.outputs[0]
    elif layer.bias_outside:
        value = graph.consumers[handed_on(graph, value)][0].outputs[0]
    value = handed_on(graph, value)
    users = graph.consumers.get(value, ())
    if value in graph.outputs:
        return Landing(value, "", scale, shift)
    if len(users) == 1 and users[0].op_type == "Add" and not users[0].domain:
        others = [name for name in users[0].inputs if name != value]
        if len(others) == 1 and others[0] not in constants:
            total = handed_on(graph, users[0].outputs[0])
            return Landing(total, others[0], scale, shift, _is_rectified(graph, total))
    return Landing(value, "", scale, shift, _is_rectified(graph, value))


def _is_rectified(graph: GraphView, value: str) -> bool:
    users = graph.consumers.get(value, ())
    return (
        len(users) == 1
        and users[0].op_type == "Relu"
        and not users[0].domain
        and value not in graph.outputs
    )


def invertible(scale: FloatArray) -> FloatArray:
    """A scale to divide by: channels that are scaled to nothing divide to nothing."""
    return np.where(np.abs(scale) < _SMALLEST_SCALE, np.inf, scale)
