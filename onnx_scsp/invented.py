"""Synthetic calibration inputs: whether they suit a model, how many, and in which range.

The range of a model's input is guessed from its constants. With normalisations kept, by how well
the values in front of them match the statistics that they were trained with:

    mismatch = mean over channels of (m' - m)^2 / v + log(v' / v)^2

m, v: the normalisation's mean and variance, m', v': those of the images. Without, by the first
layer: in training its outputs had means and deviations of one size, so where bias and inputs suit
each other the ratio |mean| / deviation is near 1: tiny inputs leave nothing but the bias, huge ones
drown it. Mean 0 and deviation 1, which most networks are trained with, is given up only where that
ratio is far off.
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.calibration import CalibrationData
from onnx_scsp.calibration.synthetic import RANGES, ValueRange, image_axis, synthetic_images
from onnx_scsp.couple import Coupling
from onnx_scsp.graph.session import open_variant, run_session, with_outputs
from onnx_scsp.graph.view import NodeView
from onnx_scsp.inputs import ModelInput, model_inputs
from onnx_scsp.observe import linear_layers
from onnx_scsp.types import AnyArray, FloatArray

_MACS = 1e12
_FEWEST, _MOST = 64, 1024
_PROBED = 8
_STANDARD = 2
"""Which of the ranges most networks are trained with."""
_BETTER = 1.5
"""How much smaller another range's mismatch has to be."""
_PLAUSIBLE = 1.8
"""|log ratio| of the first layer's outputs up to which the standard range is believed."""


def invent(coupling: Coupling, seed: int) -> CalibrationData | None:
    """Synthetic images for a model with one image input, None for any other model.

    Args:
        coupling: The model.
        seed: Seed of the images.

    Returns:
        As many images as a model of this size affords, in the range that suits it best.
    """
    inputs = model_inputs(coupling.model)
    if len(inputs) != 1 or inputs[0].dtype.kind != "f":
        return None
    item, shape = inputs[0], coupling.walk.specs[0].shape[1:]
    if image_axis(shape) is None:
        return None
    count = int(min(max(_MACS / coupling.work, _FEWEST), _MOST))
    return synthetic_images(item, shape, count, _suitable(coupling, item, shape, seed), seed)


def _suitable(
    coupling: Coupling, item: ModelInput, shape: tuple[int, ...], seed: int
) -> ValueRange:
    graph = coupling.walk.graph
    norms = [n for n in graph.nodes if n.op_type == "BatchNormalization" and not n.domain]
    norms = [n for n in norms if all(name in coupling.walk.constants for name in n.inputs[1:5])]
    first = next((layer.y for layer in linear_layers(coupling) if layer.x == item.name), "")
    wanted = [node.inputs[0] for node in norms] or ([first] if first else [])
    if not wanted:
        return RANGES[_STANDARD]
    proto = with_outputs(coupling.model.proto, wanted)
    scores: list[float] = []
    with open_variant(proto, coupling.model, optimise=True) as session:
        for values in RANGES:
            batch = next(synthetic_images(item, shape, _PROBED, values, seed).batches(_PROBED))
            found = run_session(session, batch, list(dict.fromkeys(wanted)))
            if norms:
                scores.append(-float(np.mean([_mismatch(coupling, n, found) for n in norms])))
            else:
                scores.append(-_imbalance(found[first]))
    believed = _BETTER * max(scores) if norms else -_PLAUSIBLE
    if scores[_STANDARD] >= believed:
        return RANGES[_STANDARD]
    return RANGES[int(np.argmax(scores))]


def _mismatch(coupling: Coupling, node: NodeView, found: dict[str, AnyArray]) -> float:
    constants = coupling.walk.constants
    mean, variance = (
        np.asarray(constants.array(name), np.float64).reshape(-1) for name in node.inputs[3:5]
    )
    seen = _by_channel(found[node.inputs[0]])
    if seen.shape[0] != mean.size:
        return 0.0
    spread = np.maximum(variance, 1e-12)
    shift = np.square(seen.mean(axis=1) - mean) / spread
    stretch = np.square(np.log(np.maximum(seen.var(axis=1), 1e-12) / spread))
    return float(np.mean(np.minimum(shift, 1e3) + stretch))


def _imbalance(values: AnyArray) -> float:
    """|log(|mean| / deviation)|, of the middle channel."""
    seen = _by_channel(values)
    ratio = (np.abs(seen.mean(axis=1)) + 1e-9) / (seen.std(axis=1) + 1e-9)
    return float(abs(np.log(np.median(ratio))))


def _by_channel(values: AnyArray) -> FloatArray:
    return np.moveaxis(values.astype(np.float64), 1, 0).reshape(values.shape[1], -1)
