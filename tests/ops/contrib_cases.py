"""Cases of operators that the runtime's own optimiser writes (com.microsoft)."""

from __future__ import annotations

from typing import Any

import numpy as np
from net_builder import Net
from ops.case import CHANNELS, MIXES, Case, Fragment, other
from ops.more_cases import MICROSOFT, image_of, rows

from onnx_scsp.types import FreezeReason


def between_rows(op_type: str, *operands: Any, domain: str = MICROSOFT, **attrs: Any) -> Fragment:
    """An operator on (batch, positions, channels); operands are made by functions of the net."""

    def fragment(n: Net, x: str) -> str:
        made = [operand(n) for operand in operands]
        return image_of(n, n.op(op_type, rows(n, x), *made, domain=domain, **attrs))

    return fragment


def weight(*shape: int) -> Any:
    return lambda n: n.random(*shape, fan_in=CHANNELS)


def fused_conv(n: Net, x: str) -> str:
    """A convolution with a residual input and an activation."""
    w = n.random(CHANNELS, CHANNELS, 3, 3, fan_in=9 * CHANNELS)
    attrs = {"pads": [1, 1, 1, 1], "activation": "Relu", "domain": MICROSOFT}
    return str(n.op("FusedConv", x, w, n.random(CHANNELS), x, **attrs))


def fused_depthwise(n: Net, x: str) -> str:
    w = n.random(CHANNELS, 1, 3, 3, fan_in=9)
    attrs = {"pads": [1, 1, 1, 1], "activation": "Tanh", "group": CHANNELS, "domain": MICROSOFT}
    return str(n.op("FusedConv", x, w, n.random(CHANNELS), **attrs))


def fused_gemm(n: Net, x: str) -> str:
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    w = n.random(CHANNELS, CHANNELS, fan_in=CHANNELS)
    x = n.op("FusedGemm", x, w, n.random(CHANNELS), activation="Relu", domain=MICROSOFT)
    return str(n.op("Unsqueeze", x, n.const([2, 3])))


def fused_matmul(op_type: str = "FusedMatMul") -> Fragment:
    square = weight(CHANNELS, CHANNELS)
    return between_rows(op_type, square, transB=1, alpha=0.5)


def fused_matmul_first(n: Net, x: str) -> str:
    """The picture's channels lie on the axis that is moved."""
    flat = n.op("Reshape", x, n.const([0, 0, 64]))
    w = n.random(CHANNELS, CHANNELS, fan_in=CHANNELS)
    return image_of(n, n.op("FusedMatMul", flat, w, transA=1, domain=MICROSOFT))


def fused_scores(n: Net, x: str) -> str:
    """Similarities over channels between positions."""
    a, b = rows(n, x), rows(n, other(n))
    scores = n.op("FusedMatMul", a, b, transB=1, alpha=0.1, domain=MICROSOFT)
    return image_of(n, n.op("MatMul", n.op("Softmax", scores), n.op("Abs", a)))


def skip_norm(op_type: str) -> Fragment:
    def fragment(n: Net, x: str) -> str:
        operands = (rows(n, x), rows(n, other(n)), n.positive(CHANNELS))
        return image_of(n, n.op(op_type, *operands, domain=MICROSOFT))

    return fragment


def heads(n: Net, x: str) -> str:
    query = rows(n, x)
    attrs = {"num_heads": 3, "domain": MICROSOFT}
    return image_of(n, n.op("MultiHeadAttention", query, query, query, **attrs))


def matrices(n: Net, x: str) -> str:
    """Every channel a diagonally dominant matrix."""
    safe = n.op("Add", n.op("Tanh", x), n.const(20.0 * np.eye(8)))
    return str(n.op("Mul", n.op("Inverse", safe, domain=MICROSOFT), n.const(100.0)))


def contrib(op_type: str, fragment: Fragment, held: FreezeReason | None = None) -> Case:
    return Case(f"contrib-{op_type}", op_type, fragment, held, domain=MICROSOFT)


CONTRIB = [
    contrib("FusedConv", fused_conv),
    Case("contrib-FusedConv-depthwise", "FusedConv", fused_depthwise, domain=MICROSOFT),
    contrib("FusedGemm", fused_gemm),
    contrib("FusedMatMul", fused_matmul()),
    contrib("TransposeMatMul", fused_matmul("TransposeMatMul")),
    Case("contrib-FusedMatMul-first", "FusedMatMul", fused_matmul_first, domain=MICROSOFT),
    Case("contrib-FusedMatMul-scores", "FusedMatMul", fused_scores, domain=MICROSOFT),
    contrib("Gelu", between_rows("Gelu")),
    contrib("QuickGelu", between_rows("QuickGelu", alpha=1.7)),
    contrib("BiasGelu", between_rows("BiasGelu", weight(CHANNELS))),
    contrib("FastGelu", between_rows("FastGelu", weight(CHANNELS))),
    contrib("SkipLayerNormalization", skip_norm("SkipLayerNormalization"), MIXES),
    contrib(
        "SkipSimplifiedLayerNormalization", skip_norm("SkipSimplifiedLayerNormalization"), MIXES
    ),
    contrib(
        "Attention",
        between_rows("Attention", weight(CHANNELS, 36), weight(36), num_heads=3),
    ),
    contrib("MultiHeadAttention", heads, MIXES),
    contrib("Inverse", matrices),
]
