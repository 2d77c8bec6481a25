"""Rows of the design matrix times the weight are what the runtime computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from observe.kinds import ALL, VIEWS, conv, deconv
from observe.single import Single, gap, sampled, single
from onnx_scsp.errors import ScspError
from onnx_scsp.observe.rows import Sample, inputs_seen, outputs_at

CLOSE = 1e-5
RANDOM = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("count", [4, 10_000])
@pytest.mark.parametrize("name", [*ALL, *VIEWS])
def test_rows_times_weight_is_the_output_of(name: str, count: int) -> None:
    build, shape = (ALL | VIEWS)[name]
    assert gap(single(build, *shape), count) < CLOSE


@st.composite
def geometries(draw: Callable[..., int]) -> tuple[str, dict[str, object], tuple[int, ...]]:
    """Operator, its arguments, and the shape of its input."""
    rank, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    sizes = [draw(st.integers(3, 6)) for _ in range(rank)]
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    kind = str(draw(st.sampled_from(["Conv", "ConvTranspose"])))
    pad = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if kind == "Conv" and pad.startswith("SAME"):
        dilations = [1] * rank  # the runtime has no other
    attrs: dict[str, object] = {"strides": strides, "dilations": dilations}
    if pad != "NOTSET":
        attrs["auto_pad"] = pad
    else:
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        attrs["pads"] = [draw(st.integers(0, most)) for most in reach * 2]
    if kind == "ConvTranspose" and pad == "NOTSET" and draw(st.booleans()):
        attrs["output_padding"] = [draw(st.integers(0, stride - 1)) for stride in strides]
    width = group * draw(st.integers(1, 2))
    out = group * draw(st.integers(1, 2))
    maker = conv if kind == "Conv" else deconv
    return kind, {"build": maker(out, kernel, group, **attrs)}, (2, width, *sizes)


@RANDOM
@given(geometries(), st.integers(1, 40))
def test_rows_times_weight_is_the_output_of_any_convolution(
    geometry: tuple[str, dict[str, object], tuple[int, ...]], count: int
) -> None:
    _, arguments, shape = geometry
    try:
        one = single(arguments["build"], *shape)  # type: ignore[arg-type]
    except ScspError:
        one = None  # the runtime refuses what would be empty
    assume(one is not None and one.y.size > 0)
    assert one is not None
    assert gap(one, count) < CLOSE


# ---- negative controls -------------------------------------------------------------------------


def shifted(one: Single, sample: Sample) -> Sample:
    """Reads one input position further on."""
    size = int(np.prod(one.x.shape[2:]))
    return Sample(sample.position, np.where(sample.inputs < size - 1, sample.inputs + 1, size))


@pytest.mark.parametrize("name", ["Conv 2-D", "Conv grouped", "ConvTranspose strided"])
def test_the_comparison_notices_a_shifted_tap(name: str) -> None:
    build, shape = ALL[name]
    one = single(build, *shape)
    assert gap(one, sample=shifted(one, sampled(one, 7))) > 0.1


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("Conv padded unevenly", "pads", [0, 2, 3, 1]),
        ("Conv same upper", "auto_pad", b"SAME_LOWER"),
        ("ConvTranspose same upper", "auto_pad", b"SAME_LOWER"),
        ("ConvTranspose strided", "pads", [0, 0, 0, 0]),
        ("Conv dilated", "dilations", [1, 1]),
    ],
)
def test_the_comparison_notices_a_wrong_attribute(name: str, attribute: str, value: object) -> None:
    build, shape = ALL[name]
    one = single(build, *shape)
    node = one.layer.node.proto
    for held in node.attribute:
        if held.name == attribute and isinstance(value, bytes):
            held.s = value
        elif held.name == attribute:
            held.ints[:] = value
    assert gap(one) > 1e-2


@pytest.mark.parametrize("name", ["Gemm alpha", "MatMul and Add", "Conv depthwise"])
def test_the_comparison_notices_a_changed_weight(name: str) -> None:
    build, shape = ALL[name]
    one = single(build, *shape)
    sample = sampled(one, 7)
    rows = inputs_seen(one.layer, one.x, sample, np.ones(one.layer.inputs, bool))
    matrix = one.copy.matrix(one.layer)
    matrix[0, 0] += 1.0
    products = [part @ matrix[g] for g, part in enumerate(rows)]
    found = np.concatenate(products, axis=2) + one.copy.bias(one.layer)
    assert np.abs(found - outputs_at(one.layer, one.y, sample)).max() > 0.1


# ---- positions, and inputs that are left out ---------------------------------------------------


def test_positions_are_drawn_without_repetition_and_from_everywhere() -> None:
    one = single(conv(5, (3, 3), pads=[1] * 4), 2, 4, 6, 5)
    seen = set()
    for seed in range(20):
        sample = sampled(one, 7, seed)
        assert sample.position.shape == (2, 7)
        assert all(len(set(row.tolist())) == 7 for row in sample.position)
        seen |= set(sample.position.reshape(-1).tolist())
    assert seen == set(range(30))


def test_all_positions_are_taken_where_there_are_few() -> None:
    one = single(conv(5, (3, 3), pads=[1] * 4), 2, 4, 6, 5)
    np.testing.assert_array_equal(sampled(one, 30).position, [list(range(30))] * 2)


def test_samples_see_different_positions_and_a_seed_repeats_them() -> None:
    one = single(conv(5, (3, 3), pads=[1] * 4), 2, 4, 6, 5)
    first, again = sampled(one, 7), sampled(one, 7)
    np.testing.assert_array_equal(first.position, again.position)
    assert first.position[0].tolist() != first.position[1].tolist()


@pytest.mark.parametrize("name", ["Conv grouped", "ConvTranspose grouped", "Conv 2-D", "Gemm"])
def test_kept_inputs_are_the_columns_of_all_inputs(name: str) -> None:
    build, shape = ALL[name]
    one = single(build, *shape)
    layer, sample = one.layer, sampled(one, 5)
    kept = np.ones((layer.groups, layer.inputs // layer.groups), bool)
    kept[:, 1] = False
    every = inputs_seen(layer, one.x, sample, np.ones(layer.inputs, bool))
    some = inputs_seen(layer, one.x, sample, kept.reshape(-1))
    for group in range(layer.groups):
        columns = np.repeat(kept[group], layer.taps)
        np.testing.assert_array_equal(some[group], every[group][..., columns])
