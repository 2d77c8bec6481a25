"""Convolution and transposed convolution.

Pads are `[begin of each axis, end of each axis]`. With `auto_pad` SAME the output has
ceil(size / stride) entries and the padding is what that needs, the odd one at the end (UPPER) or at
the beginning (LOWER).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution over 1 to 3 axes, of any padding."""
    rank = x.ndim - 2
    if rank not in _CONV:
        raise op.unsupported(f"a convolution over {rank} axes")
    kernel = list(weight.shape[2:])
    strides, dilations = windows(op, rank)
    begin, end = window_pads(op, list(x.shape[2:]), kernel, strides, dilations)
    if begin != end:
        x, begin = pad_ends(x, begin, end, 0.0), [0] * rank
    return _CONV[rank](x, weight, bias, strides, begin, dilations, op.attr("group", 1))


def windows(op: Op, rank: int) -> tuple[list[int], list[int]]:
    """Strides and dilations."""
    return list(op.attr("strides") or [1] * rank), list(op.attr("dilations") or [1] * rank)


def window_pads(
    op: Op, sizes: list[Any], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[Any], list[Any]]:
    """Padding at the beginning and at the end of every axis.

    Args:
        op: The node.
        sizes: Sizes of the padded axes.
        kernel: Window.
        strides: Steps of the window.
        dilations: Steps within the window.

    Returns:
        Beginning and end, one number per axis.
    """
    rank, mode = len(kernel), op.attr("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = list(op.attr("pads") or [0] * (2 * rank))
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    begin, end = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        steps = -(-size // stride)
        total = max((steps - 1) * stride + (window - 1) * dilation + 1 - size, 0)
        small = total // 2
        begin.append(small if mode == "SAME_UPPER" else total - small)
        end.append(total - small if mode == "SAME_UPPER" else small)
    return begin, end


def pad_ends(x: Tensor, begin: list[Any], end: list[Any], value: float) -> Tensor:
    """Pads the last axes; negative amounts crop."""
    amounts = [
        amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair
    ]
    return F.pad(x, amounts, value=value) if any(amounts) else x


def conv_transpose(op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution: computed in full, then cropped or extended to what is asked for."""
    rank = x.ndim - 2
    if rank not in _TRANSPOSED:
        raise op.unsupported(f"a transposed convolution over {rank} axes")
    strides, dilations = windows(op, rank)
    kernel, extra = list(weight.shape[2:]), list(op.attr("output_padding") or [0] * rank)
    begin, end = _crops(op, list(x.shape[2:]), kernel, strides, dilations, extra)
    run, groups = _TRANSPOSED[rank], op.attr("group", 1)
    fits = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if begin == end and min(begin) >= 0 and fits:
        return run(x, weight, bias, strides, begin, extra, groups, dilations)
    full = run(x, weight, None, strides, 0, 0, groups, dilations)
    y = pad_ends(full, [-b for b in begin], [o - e for e, o in zip(end, extra, strict=True)], 0.0)
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def _crops(
    op: Op,
    sizes: list[Any],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    extra: list[int],
) -> tuple[list[Any], list[Any]]:
    """What the full result loses at the beginning and at the end of every axis."""
    rank, mode = len(kernel), op.attr("auto_pad", "NOTSET")
    given = list(op.attr("output_shape") or ())[-rank:]
    same = mode in ("SAME_UPPER", "SAME_LOWER")
    if not given and not same:
        return window_pads(op, sizes, kernel, strides, dilations)
    begin, end = [], []
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        window = (kernel[axis] - 1) * dilations[axis] + 1
        target = given[axis] if given else size * stride
        exact = stride * (size - 1) + extra[axis] + window - target
        total = max(exact, 0)
        begin.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
        end.append((exact if given else total) - begin[-1])
    return begin, end
