"""Convolution and pooling of any attributes that onnxruntime accepts."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import HealthCheck, assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from onnx_scsp.errors import ModelError  # noqa: E402
from onnx_scsp.retrain.lift import lift  # noqa: E402
from retrain.lift_case import Case, case, noise  # noqa: E402
from retrain.running import apart, in_torch  # noqa: E402

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


@st.composite
def windows(draw: Any, *, most_pad: bool = False) -> tuple[list[int], dict[str, Any]]:
    """Input sizes, and attributes of a window over them."""
    rank = draw(st.integers(1, 2))

    def each(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, sizes = each(1, 4), each(6, 11)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": each(1, 3)}
    how = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if how == "NOTSET":
        bound = [k - 1 if most_pad else 3 for k in kernel]
        attributes["pads"] = [draw(st.integers(0, b)) for _ in range(2) for b in bound]
    else:
        attributes["auto_pad"] = how
    return sizes, attributes


def skips_entries(attributes: dict[str, Any]) -> bool:
    """SAME with steps wider than the window: onnxruntime's pools crop, refuse or do as its Conv."""
    pairs = zip(attributes["kernel_shape"], attributes["strides"], strict=True)
    return "auto_pad" in attributes and any(kernel < stride for kernel, stride in pairs)


def check(one: Case) -> None:
    try:
        expected = one.expected()
    except ModelError:
        assume(False)
        raise
    assume(all(array.size for array in expected.values()))
    assert apart(in_torch(lift(one.model()), one.feeds()), expected) <= 1e-4


@QUICK
@given(windows(), st.sampled_from([1, 2, 4]), st.data())
def test_convolution(window: tuple[list[int], dict[str, Any]], groups: int, data: Any) -> None:
    sizes, attributes = window
    if "auto_pad" not in attributes:
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in sizes]
    weight = noise(8, 4 // groups, *attributes["kernel_shape"], seed=1)
    check(
        case("Conv", noise(2, 4, *sizes), weight, noise(8, seed=2), stored=(1, 2), group=groups,
             **attributes)
    )  # fmt: skip


@QUICK
@given(windows(), st.sampled_from([1, 2]), st.data())
def test_transposed_convolution(
    window: tuple[list[int], dict[str, Any]], groups: int, data: Any
) -> None:
    sizes, attributes = window
    if "auto_pad" not in attributes:
        attributes["output_padding"] = [
            data.draw(st.integers(0, stride - 1)) for stride in attributes["strides"]
        ]
    weight = noise(4, 3, *attributes["kernel_shape"], seed=1)
    check(
        case("ConvTranspose", noise(2, 4, *sizes), weight, stored=(1,), group=groups, **attributes)
    )


@QUICK
@given(windows(most_pad=True), st.booleans(), st.data())
def test_max_pool(window: tuple[list[int], dict[str, Any]], ceil: bool, data: Any) -> None:
    sizes, attributes = window
    assume(not skips_entries(attributes))
    if "auto_pad" not in attributes:
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in sizes]
        attributes["ceil_mode"] = int(ceil)
    check(case("MaxPool", noise(2, 3, *sizes), outputs=2, **attributes))


@QUICK
@given(windows(most_pad=True), st.booleans(), st.booleans())
def test_average_pool(window: tuple[list[int], dict[str, Any]], ceil: bool, counted: bool) -> None:
    sizes, attributes = window
    assume(not skips_entries(attributes))
    if "auto_pad" not in attributes:
        attributes["ceil_mode"] = int(ceil)
    check(
        case("AveragePool", noise(2, 3, *sizes), opset=19, count_include_pad=int(counted),
             **attributes)
    )  # fmt: skip
