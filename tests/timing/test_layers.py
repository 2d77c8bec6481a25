"""Tables of single layers, measured elsewhere."""

from __future__ import annotations

import math

import pytest

from onnx_scsp.errors import ConfigError
from onnx_scsp.timing import LayerShape, device_table

HEAD = "kind,in,out,kernel,stride,spatial,ms\n"
ROWS = HEAD + (
    "dense,32,32,3,1,16,1.0\n"
    "dense,32,64,3,1,16,1.9\n"
    "pointwise,32,32,1,1,16,0.2\n"
    "depthwise,32,32,3,1,16,0.3\n"
    "matmul,64,10,1,1,1,0.01\n"
)


def dense(width: int, spatial: float = 16.0) -> LayerShape:
    return LayerShape("dense", 32, width, 3, 1, spatial)


def test_a_row_stands_for_itself() -> None:
    table = device_table(ROWS, "t.csv")
    assert table.ms(dense(32)) == pytest.approx(1.0)
    assert table.ms(dense(64)) == pytest.approx(1.9)


def test_between_rows_the_rate_lies_between_theirs() -> None:
    table = device_table(ROWS, "t.csv")
    rate = table.ms(dense(48)) / dense(48).macs
    low, high = sorted(table.ms(dense(w)) / dense(w).macs for w in (32, 64))
    assert low < rate < high


def test_a_larger_image_takes_as_much_longer_as_it_has_pixels() -> None:
    one_row = device_table(HEAD + "dense,32,32,3,1,16,1.0\n", "t.csv")
    assert one_row.ms(dense(32, 32.0)) == pytest.approx(4.0)


def test_a_depthwise_row_counts_one_filter_per_channel() -> None:
    table = device_table(ROWS, "t.csv")
    layer = LayerShape("depthwise", 32, 32, 3, 1, 16.0, 32)
    assert table.ms(layer) == pytest.approx(0.3)
    half = LayerShape("depthwise", 16, 16, 3, 1, 16.0, 16)
    assert table.ms(half) == pytest.approx(0.15)


def test_stride_may_be_left_out() -> None:
    table = device_table("kind,in,out,kernel,spatial,ms\ndense,32,32,3,16,1.0\n", "t.csv")
    assert table.ms(dense(32)) == pytest.approx(1.0)


def test_a_kind_without_rows_is_named() -> None:
    with pytest.raises(ConfigError, match=r"t\.csv has no row of kind grouped"):
        device_table(ROWS, "t.csv").ms(LayerShape("grouped", 32, 32, 3, 1, 16.0, 4))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no column kind, in, out"),
        ("kind,in,out\ndense,1,1\n", "has no column kernel, spatial, ms"),
        (HEAD, "has no row below its header"),
        (HEAD + "conv,1,1,1,1,1,1\n", "line 2: kind 'conv' is unknown; use dense"),
        (HEAD + "dense,x,1,1,1,1,1\n", "line 2: in 'x' is no number"),
        (HEAD + "dense,1.5,1,1,1,1,1\n", "line 2: in 1.5 is not a positive whole number"),
        (HEAD + "dense,1,1,1,1,1,0\n", "line 2: ms 0 is not positive"),
        (HEAD + "dense,1,1,1,1,1,inf\n", "line 2: ms inf is not positive"),
        (HEAD + "dense,1,1,1,1,1,nan\n", "line 2: ms nan is not positive"),
        (HEAD + "dense,1,1\n", "line 2: kernel '' is no number"),
        (ROWS + "dense,1,1,1,1,1,oops\n", "line 7: ms 'oops' is no number"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        device_table(text, "t.csv")


def test_macs_of_a_layer() -> None:
    assert math.isclose(dense(64).macs, 32 * 64 * 9 * 256)
