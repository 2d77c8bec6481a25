"""Operators of com.microsoft that the runtime's own optimiser writes into a saved model."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from onnx_scsp.ops import conv, linear, pointwise
from onnx_scsp.ops.blocking import block, freeze_inputs
from onnx_scsp.ops.einsum import Letters, contract
from onnx_scsp.ops.indexing import CONTRIB_RULES
from onnx_scsp.ops.rule import OpRule, rule_of
from onnx_scsp.ops.sampling import samples
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason

_DOMAIN = "com.microsoft"
_HOMOGENEOUS = ("", "Relu", "LeakyRelu")


_CONV = rule_of(conv.RULES, "Conv")
_GEMM = rule_of(linear.RULES, "Gemm")
_UNARY = rule_of(pointwise.RULES, "Tanh")
_NARY = rule_of(pointwise.RULES, "Mul")


def _fused_conv(site: Site) -> None:
    """act(Conv(X, W, B) + Z)."""
    _CONV.couple(site)
    out = site.facts.activations[site.node.outputs[0]]
    if site.has(3):
        site.equal(site.x(3).labels, out.labels)
    _curve_activation(site)


def _fused_gemm(site: Site) -> None:
    _GEMM.couple(site)
    _curve_activation(site)


def _curve_activation(site: Site) -> None:
    if site.attr("activation", "") not in _HOMOGENEOUS:
        site.curve(site.facts.activations[site.node.outputs[0]].labels)


def _fused_matmul(site: Site) -> None:
    """A' B' times a number: the last two axes swapped or not, the axis before them moved or not."""
    if site.attr("transBatchA", 0) or site.attr("transBatchB", 0):
        block(site, "moves the batch axis between the two that it multiplies")
        return
    shapes = site.shape(0), site.shape(1)
    if min(map(len, shapes)) < 2:
        block(site, "one operand is a vector")
        return
    a, b = (
        term + (pair[::-1] if site.attr(name, 0) else pair)
        for term, pair, name in zip(
            _batch_letters(shapes), ("yx", "xz"), ("transA", "transB"), strict=True
        )
    )
    batch = string.ascii_uppercase[: max(map(len, shapes)) - 2]
    contract(site, Letters((a, b), f"{batch}yz"))


def _batch_letters(shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """Letters of the leading axes; one of size 1 that meets a longer one is summed away."""
    batch = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    terms = []
    for shape, own in zip(shapes, ("abcdefgh", "ijklmnop"), strict=True):
        first = len(batch) - (len(shape) - 2)
        terms.append(
            "".join(
                string.ascii_uppercase[axis] if shape[axis - first] == batch[axis] else own[axis]
                for axis in range(first, len(batch))
            )
        )
    return terms


def _skip_norm(site: Site) -> None:
    block(site, f"{site.node.op_type} normalises over channels, so removing one changes the others")


def _attention(site: Site) -> None:
    """X (batch, sequence, C) times one weight (C, 3 x hidden); heads divide the rest."""
    detail = "attention heads divide its channels"
    if not site.is_const(1) or site.is_const(0):
        block(site, detail)
        return
    freeze_inputs(site, (0,), detail, FreezeReason.MIXES_CHANNELS)
    x, shape = site.x(0), site.shape(1)
    read = site.vector(x, 2)
    site.reads(1, 0, read)
    batch, sequence = x.shape[:2]
    site.cost(float(batch * sequence * shape[1]), read)
    site.cost(2.0 * batch * sequence * sequence * site.out_shape()[2])
    site.emit_frozen(FreezeReason.MIXES_CHANNELS, detail)
    site.hold(shape[1], FreezeReason.MIXES_CHANNELS, detail)


def _heads(site: Site) -> None:
    block(site, "attention heads divide its channels")
    query, key = site.shape(0), site.shape(1) if site.has(1) else site.shape(0)
    site.cost(2.0 * float(np.prod(query)) * key[-2])


def _inverse(site: Site) -> None:
    x = site.x(0)
    if {len(x.shape) - 1, len(x.shape) - 2} & set(x.varying):
        block(site, "inverts a matrix of channels")
        return
    site.curve(x.labels)
    site.emit(x.labels)


RULES = (
    OpRule(("FusedConv",), _fused_conv, "as Conv; the added input ties", _CONV.mend, _DOMAIN),
    OpRule(("FusedGemm",), _fused_gemm, "as Gemm", _GEMM.mend, _DOMAIN),
    OpRule(
        ("FusedMatMul", "TransposeMatMul"), _fused_matmul, "as MatMul, transposed", None, _DOMAIN
    ),
    OpRule(("Gelu", "QuickGelu"), _UNARY.couple, "elementwise", None, _DOMAIN),
    OpRule(("BiasGelu", "FastGelu"), _NARY.couple, "elementwise; a bias scales", None, _DOMAIN),
    OpRule(
        ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
        _skip_norm,
        "normalises over channels: they stay",
        None,
        _DOMAIN,
    ),
    OpRule(("Attention",), _attention, "reads channels; its heads stay", None, _DOMAIN),
    OpRule(("MultiHeadAttention",), _heads, "heads divide the channels: they stay", None, _DOMAIN),
    OpRule(("GridSample",), samples, "every channel on its own; the grid stays", None, _DOMAIN),
    OpRule(("Inverse",), _inverse, "channels on the inverted axes stay", None, _DOMAIN),
    *CONTRIB_RULES,
)
