"""Quantised models: conversion nodes, and operators that compute on integers.

An operator on integers follows the rule of its floating-point sibling, which sees only the inputs
that carry data. Scales and zero points with one entry per channel go along with the axis that they
code (see `graph/quantised.py`); those of a whole tensor stay.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx_scsp.ops import conv, linear, pointwise, pool, reduce, slicing
from onnx_scsp.ops.blocking import block
from onnx_scsp.ops.rule import OpRule, rule_of
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason

_MICROSOFT = "com.microsoft"
_CONV = rule_of(conv.RULES, "Conv")
_POOL = rule_of(pool.RULES, "AveragePool")
_CONCAT = rule_of(slicing.RULES, "Concat")
_SOFTMAX = rule_of(reduce.RULES, "Softmax")


def _convert(site: Site) -> None:
    """QuantizeLinear and DequantizeLinear of an activation, per tensor or per entry of an axis."""
    x = site.x(0)
    if site.attr("block_size", 0) or len(site.shape(1)) > 1:
        detail = "is quantised in blocks of several channels"
        block(site, detail)
        return
    axis = int(site.attr("axis", 1))
    for index in (1, 2):
        if site.has(index) and site.shape(index) and site.shape(index)[0] > 1:
            site.scales(index, 0, site.vector(x, axis))
    site.curve(x.labels)
    site.emit(x.labels)


def _dynamic(site: Site) -> None:
    detail = "takes one scale from the largest and smallest value over all channels"
    block(site, detail)


def _like(rules: tuple[OpRule, ...], op_type: str, *places: int) -> Callable[[Site], None]:
    """The rule of a floating-point operator, on the inputs at these places."""
    sibling = rule_of(rules, op_type)

    def couple(site: Site) -> None:
        _round(site, places)
        sibling.couple(site.seen_as(op_type, places))

    return couple


def _round(site: Site, places: tuple[int, ...]) -> None:
    """Rounding to integers does not commute with a factor."""
    for place in places:
        if site.has(place) and not site.is_const(place):
            site.curve(site.x(place).labels)


def _concat(site: Site) -> None:
    """(scale, zero point, then for each part: data, scale, zero point)."""
    places = tuple(range(2, len(site.node.inputs), 3))
    _round(site, places)
    _CONCAT.couple(site.seen_as("Concat", places))


def _pool(site: Site) -> None:
    x = site.x(0)
    if site.attr("channels_last", 0) and set(x.varying) - {len(x.shape) - 1}:
        detail = "channels do not lie on its last axis"
        block(site, detail, FreezeReason.NOT_CHANNEL_AXIS)
        return
    _round(site, (0,))
    if site.attr("channels_last", 0):
        site.emit(x.labels)
    else:
        _POOL.couple(site.seen_as("AveragePool", (0,)))


def _conv(site: Site) -> None:
    """The runtime's own QLinearConv may have its channels on the last axis."""
    _round(site, (0,))
    sibling = site.seen_as("Conv", (0, 3, 8))
    if site.attr("channels_last", 0):
        conv.channels_last(sibling)
    else:
        _CONV.couple(sibling)


def _max_pool(site: Site) -> None:
    """NhwcMaxPool: windows slide over all axes but the first and the last."""
    x = site.x(0)
    if set(x.varying) - {len(x.shape) - 1}:
        block(site, "channels do not lie on its last axis", FreezeReason.NOT_CHANNEL_AXIS)
        return
    site.emit(x.labels)


def _softmax(site: Site) -> None:
    """The operator set whose Softmax is meant is an attribute."""
    sibling = site.seen_as("Softmax", (0,), opset=int(site.attr("opset", 1)))
    _SOFTMAX.couple(sibling)


_PAIR = (0, 3)

RULES = (
    OpRule(
        ("QuantizeLinear", "DequantizeLinear"),
        _convert,
        "elementwise; scales per channel are cut; blocks hold channels",
    ),
    OpRule(("DynamicQuantizeLinear",), _dynamic, "its scale depends on all channels: they stay"),
    OpRule(
        ("QLinearConv",),
        _like(conv.RULES, "Conv", 0, 3, 8),
        "as Conv; scales per filter are cut along",
        _CONV.mend,
    ),
    OpRule(
        ("ConvInteger",),
        _like(conv.RULES, "Conv", 0, 1),
        "as Conv; zero points per filter are cut along",
        _CONV.mend,
    ),
    OpRule(
        ("QLinearMatMul",),
        _like(linear.RULES, "MatMul", 0, 3),
        "as MatMul; scales per column are cut along",
    ),
    OpRule(
        ("MatMulInteger",),
        _like(linear.RULES, "MatMul", 0, 1),
        "as MatMul; zero points per column are cut along",
    ),
)

MICROSOFT_RULES = (
    OpRule(
        ("QuantizeLinear", "DequantizeLinear"),
        _convert,
        "elementwise; scales per channel are cut",
        domain=_MICROSOFT,
    ),
    OpRule(
        ("QLinearConv",),
        _conv,
        "as Conv, channels first or last; scales per filter are cut along",
        _CONV.mend,
        _MICROSOFT,
    ),
    OpRule(("NhwcMaxPool",), _max_pool, "every channel on its own", domain=_MICROSOFT),
    OpRule(
        ("QLinearWhere",),
        _like(pointwise.RULES, "Where", 0, 1, 4),
        "as Where",
        domain=_MICROSOFT,
    ),
    OpRule(
        ("QGemm",),
        _like(linear.RULES, "Gemm", 0, 3, 6),
        "as Gemm; scales per column are cut along",
        domain=_MICROSOFT,
    ),
    OpRule(("QLinearAdd",), _like(pointwise.RULES, "Add", *_PAIR), "as Add", domain=_MICROSOFT),
    OpRule(("QLinearMul",), _like(pointwise.RULES, "Mul", *_PAIR), "as Mul", domain=_MICROSOFT),
    OpRule(
        ("QLinearLeakyRelu",),
        _like(pointwise.RULES, "LeakyRelu", 0),
        "elementwise",
        domain=_MICROSOFT,
    ),
    OpRule(
        ("QLinearSigmoid",),
        _like(pointwise.RULES, "Sigmoid", 0),
        "elementwise",
        domain=_MICROSOFT,
    ),
    OpRule(("QLinearConcat",), _concat, "as Concat", domain=_MICROSOFT),
    OpRule(
        ("QLinearGlobalAveragePool", "QLinearAveragePool"),
        _pool,
        "every channel on its own",
        domain=_MICROSOFT,
    ),
    OpRule(("QLinearSoftmax",), _softmax, "over other axes it passes", domain=_MICROSOFT),
)
