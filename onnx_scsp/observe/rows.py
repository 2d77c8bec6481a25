"""Design matrices: the inputs that sampled output positions of a layer see.

For output position p of a Conv and tap t the input position is

    i = stride p + dilation t - pad            (outside the input: 0)

and for a ConvTranspose  i = (p + pad - dilation t) / stride  where that is whole, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_scsp.observe.layers import Linear
from onnx_scsp.types import AnyArray, BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Output positions of one batch.

    Attributes:
        position: int (samples, positions), flat spatial positions, or rows of a matrix product.
        inputs: int (samples, positions, taps), flat input positions, the input's size where the
            tap falls outside.
    """

    position: IntArray
    inputs: IntArray


def draw(
    layer: Linear,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
) -> Sample:
    """Draws output positions, as many for every sample of a batch.

    Args:
        layer: The layer.
        x_shape: Shape of its input.
        y_shape: Shape of its output.
        count: Positions per sample; all of them where there are fewer.
        rng: Random numbers.

    Returns:
        The positions, without repetition within a sample.
    """
    samples = x_shape[0] if len(x_shape) > 1 else 1
    spatial = y_shape[2:] if layer.is_conv else y_shape[1:-1]
    total = int(np.prod(spatial, dtype=np.int64))
    if total <= count:
        position = np.broadcast_to(np.arange(total), (samples, total))
    else:
        position = np.argsort(rng.random((samples, total)), axis=1)[:, :count]
    if not layer.is_conv:
        return Sample(position, position[..., None])
    return Sample(position, _tap_positions(layer, x_shape[2:], spatial, position))


def _tap_positions(
    layer: Linear, x_size: tuple[int, ...], y_size: tuple[int, ...], position: IntArray
) -> IntArray:
    kernel = layer.shape[2:]
    node, rank = layer.node, len(kernel)
    strides = node.attr("strides") or [1] * rank
    dilations = node.attr("dilations") or [1] * rank
    begins = _pads(layer, x_size, y_size, strides, dilations)
    where = np.unravel_index(position, y_size)
    tap = np.unravel_index(np.arange(layer.taps), kernel)
    flat = np.zeros((*position.shape, layer.taps), np.int64)
    inside = np.ones(flat.shape, bool)
    for axis in range(rank):
        place, reach = where[axis][..., None], dilations[axis] * tap[axis]
        if node.op_type == "Conv":
            at = strides[axis] * place + reach - begins[axis]
        else:
            at, rest = np.divmod(place + begins[axis] - reach, strides[axis])
            inside &= rest == 0
        inside &= (at >= 0) & (at < x_size[axis])
        flat = flat * x_size[axis] + at
    return np.where(inside, flat, int(np.prod(x_size, dtype=np.int64)))


def _pads(
    layer: Linear,
    x_size: tuple[int, ...],
    y_size: tuple[int, ...],
    strides: list[int],
    dilations: list[int],
) -> list[int]:
    """Padding before each spatial axis, as the runtime resolves `auto_pad`."""
    node, rank = layer.node, len(x_size)
    auto = node.attr("auto_pad", "NOTSET")
    is_open = node.op_type == "ConvTranspose" and node.has_attr("output_shape")
    if auto == "VALID" and not is_open:
        return [0] * rank
    if auto == "NOTSET" and not is_open:
        return list(node.attr("pads") or [0] * (2 * rank))[:rank]
    begins = []
    for axis in range(rank):
        reach = (layer.shape[2 + axis] - 1) * dilations[axis] + 1
        if node.op_type == "Conv":
            total = max((y_size[axis] - 1) * strides[axis] + reach - x_size[axis], 0)
        else:
            more = (node.attr("output_padding") or [0] * rank)[axis]
            total = max(strides[axis] * (x_size[axis] - 1) + more + reach - y_size[axis], 0)
        begins.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return begins


def inputs_seen(layer: Linear, x: AnyArray, sample: Sample, kept: BoolArray) -> FloatArray:
    """Rows of the design matrix, for each group.

    Args:
        layer: The layer.
        x: Its input.
        sample: Output positions.
        kept: Bool (input channels,), equally many of every group.

    Returns:
        float64 (groups, samples, positions, kept channels of a group x taps).
    """
    samples, positions = sample.position.shape
    if not layer.is_conv:
        flat = np.asarray(x).reshape(samples, -1, layer.inputs)
        rows = np.take_along_axis(flat, sample.position[..., None], axis=1)[..., kept]
        return rows.astype(np.float64)[None]
    spread = np.asarray(x).reshape(samples, layer.inputs, -1)
    chosen = spread[:, kept]
    padded = np.concatenate([chosen, np.zeros((*chosen.shape[:2], 1), chosen.dtype)], axis=2)
    seen = np.stack([padded[n][:, sample.inputs[n]] for n in range(samples)])
    width = chosen.shape[1] // layer.groups
    split = seen.reshape(samples, layer.groups, width, positions, layer.taps)
    by_group = split.transpose(1, 0, 3, 2, 4).astype(np.float64)
    return by_group.reshape(layer.groups, samples, positions, width * layer.taps)


def draw_inputs(
    layer: Linear, x_shape: tuple[int, ...], count: int, rng: np.random.Generator
) -> IntArray:
    """Draws input positions, as many for every sample of a batch.

    Args:
        layer: The layer.
        x_shape: Shape of its input.
        count: Positions per sample; all of them where there are fewer.
        rng: Random numbers.

    Returns:
        int (samples, positions), flat positions, without repetition within a sample.
    """
    samples = x_shape[0] if len(x_shape) > 1 else 1
    spatial = x_shape[2:] if layer.is_conv else x_shape[1:-1]
    total = int(np.prod(spatial, dtype=np.int64))
    if total <= count:
        return np.tile(np.arange(total), (samples, 1))
    return np.argsort(rng.random((samples, total)), axis=1)[:, :count]


def channels_at(layer: Linear, x: AnyArray, place: IntArray) -> FloatArray:
    """Values of an input's channels at given positions.

    Args:
        layer: The layer.
        x: Its input.
        place: int (samples, positions), flat positions.

    Returns:
        float64 (groups, samples x positions, input channels of the group).
    """
    samples = place.shape[0]
    if layer.is_conv:
        flat = np.asarray(x).reshape(samples, layer.inputs, -1)
        taken = np.take_along_axis(flat, place[:, None, :], axis=2).transpose(0, 2, 1)
    else:
        flat = np.asarray(x).reshape(samples, -1, layer.inputs)
        taken = np.take_along_axis(flat, place[..., None], axis=1)
    rows = taken.astype(np.float64).reshape(-1, layer.groups, layer.inputs // layer.groups)
    return rows.transpose(1, 0, 2)


def outputs_at(layer: Linear, y: AnyArray, sample: Sample) -> FloatArray:
    """Values of an output, or of anything of its shape, at the sampled positions.

    Returns:
        float64 (samples, positions, output channels).
    """
    samples = sample.position.shape[0]
    if not layer.is_conv:
        flat = np.asarray(y).reshape(samples, -1, y.shape[-1])
        return np.take_along_axis(flat, sample.position[..., None], axis=1).astype(np.float64)
    flat = np.asarray(y).reshape(samples, y.shape[1], -1)
    taken = np.take_along_axis(flat, sample.position[:, None, :], axis=2)
    return taken.transpose(0, 2, 1).astype(np.float64)
