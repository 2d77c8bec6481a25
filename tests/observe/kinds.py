"""Every kind of linear layer, with the shape of its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from net_builder import Net
from onnx import TensorProto

from observe.single import Build

Kind = tuple[Build, tuple[int, ...]]


def conv(out: int, kernel: tuple[int, ...], group: int = 1, **attrs: Any) -> Build:
    def build(n: Net, x: str) -> str:
        width = n.channels[x] // group
        return str(n.op("Conv", x, n.random(out, width, *kernel), n.random(out), group=group,
                        channels=out, **attrs))  # fmt: skip

    return build


def deconv(out: int, kernel: tuple[int, ...], group: int = 1, **attrs: Any) -> Build:
    def build(n: Net, x: str) -> str:
        weight = n.random(n.channels[x], out // group, *kernel)
        return str(n.op("ConvTranspose", x, weight, n.random(out), group=group, channels=out,
                        **attrs))  # fmt: skip

    return build


def gemm(fan_in: int, out: int, **attrs: Any) -> Build:
    def build(n: Net, x: str) -> str:
        shape = (out, fan_in) if attrs.get("transB") else (fan_in, out)
        return str(n.op("Gemm", x, n.random(*shape), n.random(out), **attrs))

    return build


def matmul(fan_in: int, out: int, bias: tuple[int, ...] | None = None) -> Build:
    def build(n: Net, x: str) -> str:
        y = n.op("MatMul", x, n.random(fan_in, out))
        return str(n.op("Add", n.random(*bias), y) if bias is not None else y)

    return build


def viewed(*views: str) -> Build:
    """A convolution whose weight is stored otherwise and seen through views."""

    def build(n: Net, x: str) -> str:
        fan_in = n.channels[x]
        shape = {"Transpose": (3, 5, 2, fan_in), "Unsqueeze": (5, fan_in)}
        w = n.random(*shape.get(views[0] if views else "", (5, fan_in, 3, 2)))
        if "Cast" in views:
            w = n.const(n.rng.standard_normal((5, fan_in, 3, 2)), dtype=np.float64)
        for view in views:
            if view == "Transpose":
                w = n.op("Transpose", w, perm=[1, 3, 0, 2])
            elif view == "Unsqueeze":
                w = n.op("Unsqueeze", w, n.const([2, 3]))
            elif view == "Cast":
                w = n.op("Cast", w, to=TensorProto.FLOAT)
            else:
                w = n.op(view, w)
        b = n.op("Squeeze", n.random(5, 1), n.const([1])) if views else n.random(5)
        return str(n.op("Conv", x, w, b, channels=5))

    return build


CONVS: dict[str, Kind] = {
    "1-D": (conv(5, (3,), pads=[1, 1]), (2, 4, 9)),
    "2-D": (conv(5, (3, 3), pads=[1] * 4), (2, 4, 6, 5)),
    "3-D": (conv(3, (2, 3, 2), pads=[0, 1, 1, 1, 1, 0]), (2, 2, 4, 5, 3)),
    "1x1": (conv(5, (1, 1)), (2, 4, 3, 4)),
    "strided": (conv(5, (3, 2), strides=[2, 3], pads=[1] * 4), (2, 4, 8, 9)),
    "dilated": (conv(5, (3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]), (2, 4, 8, 9)),
    "padded unevenly": (conv(5, (3, 4), pads=[2, 0, 1, 3]), (2, 4, 6, 6)),
    "same upper": (conv(5, (4, 3), auto_pad="SAME_UPPER", strides=[1, 2]), (2, 4, 7, 8)),
    "same lower": (conv(5, (4, 3), auto_pad="SAME_LOWER", strides=[1, 2]), (2, 4, 7, 8)),
    "valid": (conv(5, (4, 3), auto_pad="VALID", strides=[1, 2]), (2, 4, 7, 8)),
    "grouped": (conv(6, (3, 3), 3, pads=[1] * 4), (2, 9, 5, 5)),
    "depthwise": (conv(8, (3, 3), 4, pads=[1] * 4, strides=[2, 1]), (2, 4, 6, 5)),
    "one sample": (conv(5, (3, 3)), (1, 4, 6, 5)),
}
DECONVS: dict[str, Kind] = {
    "1-D": (deconv(5, (3,), strides=[2]), (2, 4, 6)),
    "2-D": (deconv(5, (3, 3), pads=[1] * 4), (2, 4, 5, 4)),
    "3-D": (deconv(3, (2, 3, 2), strides=[1, 2, 3]), (2, 2, 3, 4, 2)),
    "strided": (deconv(5, (3, 2), strides=[2, 3], pads=[1, 0, 1, 0]), (2, 4, 5, 4)),
    "gaps": (deconv(5, (2, 2), strides=[3, 4]), (2, 4, 4, 3)),
    "dilated": (deconv(5, (3, 2), dilations=[2, 3], strides=[2, 1]), (2, 4, 5, 4)),
    "padded unevenly": (deconv(5, (4, 4), pads=[2, 0, 1, 3], strides=[2, 2]), (2, 4, 5, 4)),
    "output padding": (
        deconv(5, (3, 3), strides=[3, 2], pads=[1] * 4, output_padding=[2, 1]),
        (2, 4, 5, 4),
    ),
    "output shape": (deconv(5, (3, 3), strides=[2, 2], output_shape=[8, 8]), (2, 4, 4, 4)),
    "output shape, odd": (deconv(5, (4, 4), strides=[2, 2], output_shape=[9, 7]), (2, 4, 4, 4)),
    "output shape, valid": (
        deconv(5, (4, 4), strides=[2, 2], output_shape=[9, 7], auto_pad="VALID"),
        (2, 4, 4, 4),
    ),
    "output shape and padding": (
        deconv(5, (4, 4), strides=[2, 2], output_shape=[9, 8], output_padding=[1, 0]),
        (2, 4, 4, 4),
    ),
    "same lower, output padding": (
        deconv(5, (3, 3), strides=[3, 2], output_padding=[1, 1], auto_pad="SAME_LOWER"),
        (2, 4, 4, 4),
    ),
    "output shape, upper": (
        deconv(5, (4, 3), strides=[2, 2], output_shape=[9, 8], auto_pad="SAME_UPPER"),
        (2, 4, 4, 4),
    ),
    "same upper": (deconv(5, (3, 4), strides=[2, 1], auto_pad="SAME_UPPER"), (2, 4, 4, 5)),
    "same lower": (deconv(5, (3, 4), strides=[2, 1], auto_pad="SAME_LOWER"), (2, 4, 4, 5)),
    "valid": (deconv(5, (3, 4), strides=[2, 1], auto_pad="VALID"), (2, 4, 4, 5)),
    "grouped": (deconv(6, (3, 3), 3, strides=[2, 2], pads=[1] * 4), (2, 9, 4, 4)),
    "depthwise": (deconv(8, (3, 3), 4, strides=[2, 1]), (2, 4, 4, 4)),
}
PRODUCTS: dict[str, Kind] = {
    "Gemm": (gemm(7, 5), (6, 7)),
    "Gemm transB": (gemm(7, 5, transB=1), (6, 7)),
    "Gemm alpha": (gemm(7, 5, transB=1, alpha=0.3), (6, 7)),
    "MatMul": (matmul(7, 5), (6, 7)),
    "MatMul of a vector": (matmul(7, 5), (7,)),
    "MatMul 3-D": (matmul(7, 5), (2, 9, 7)),
    "MatMul 4-D": (matmul(7, 5), (2, 3, 4, 7)),
    "MatMul and Add": (matmul(7, 5, bias=(5,)), (2, 9, 7)),
    "MatMul and a wide Add": (matmul(7, 5, bias=(1, 1, 5)), (2, 9, 7)),
}
ALL = {f"Conv {name}": entry for name, entry in CONVS.items()}
ALL |= {f"ConvTranspose {name}": entry for name, entry in DECONVS.items()}
ALL |= PRODUCTS
VIEWS: dict[str, Kind] = {
    " and ".join(views): (viewed(*views), (2, 4, 6, 5))
    for views in (
        ("Identity",),
        ("Transpose",),
        ("Unsqueeze",),
        ("Cast",),
        ("Transpose", "Identity"),
        ("Unsqueeze", "Identity"),
    )
}
