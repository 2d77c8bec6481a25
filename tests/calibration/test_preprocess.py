"""How preprocessing is described, and what a model settles of it."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_scsp.calibration import Preprocess
from onnx_scsp.errors import ConfigError
from onnx_scsp.inputs import ModelInput


def bound(sizes, *, dtype="float32", **options):
    return Preprocess(**options).bind(ModelInput("x", tuple(sizes), np.dtype(dtype)))


@pytest.mark.parametrize(
    ("sizes", "layout", "channels", "size"),
    [
        ((0, 3, 8, 9), "nchw", 3, (8, 9)),
        ((0, 1, 8, 9), "nchw", 1, (8, 9)),
        ((0, 4, 8, 9), "nchw", 4, (8, 9)),
        ((0, 8, 9, 3), "nhwc", 3, (8, 9)),
        ((0, 8, 9, 1), "nhwc", 1, (8, 9)),
        ((0, 8, 9, 4), "nhwc", 4, (8, 9)),
        ((1, 0, 0, 3), "nhwc", 3, None),
        ((1, 3, 0, 0), "nchw", 3, None),
        ((0, 0, 0, 0), "nchw", 3, None),
        ((0, 0, 8, 9), "nchw", 3, (8, 9)),
        ((0, 8, 9, 0), "nhwc", 3, (8, 9)),
        ((0, 3, 3, 3), "nchw", 3, (3, 3)),
    ],
)
def test_the_layout_is_read_off_the_model(sizes, layout, channels, size):
    found = bound(sizes)
    assert (found.layout, found.channels, found.size) == (layout, channels, size)


def test_a_layout_that_is_given_wins():
    assert bound((0, 3, 3, 3), layout="nhwc").layout == "nhwc"


def test_a_model_of_one_channel_takes_gray_images():
    assert bound((0, 1, 8, 8)).colour == "gray"


def test_an_open_channel_axis_counts_one_for_gray_images():
    assert bound((0, 0, 8, 8), colour="gray").channels == 1


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1 / 255), ("uint8", 1.0)])
def test_the_value_range_follows_the_type_of_the_input(dtype, scale):
    assert bound((0, 3, 8, 8), dtype=dtype).scale == scale


def test_one_number_is_the_size_of_both_sides():
    assert Preprocess(size=7).size == (7, 7)


@pytest.mark.parametrize(
    ("sizes", "options", "words"),
    [
        ((0, 10), {}, "takes no images"),
        ((0, 12, 8, 8), {}, "has 12 channels in layout nchw"),
        ((0, 8, 8, 3), {"layout": "nchw"}, "has 8 channels in layout nchw"),
        ((0, 3, 8, 8), {"size": (9, 8)}, "size 9x8 does not fit input 'x', whose images are 8x8"),
        ((0, 3, 8, 0), {}, "leaves one side of the image open"),
        ((0, 3, 8, 8), {"mean": (0.1, 0.2)}, "mean has 2 values, input 'x' has 3 channels"),
        ((0, 1, 8, 8), {"std": (1.0, 2.0, 3.0)}, "std has 3 values, input 'x' has 1 channels"),
        ((0, 1, 8, 8), {"colour": "bgr"}, "colour bgr has 3 channels"),
        ((0, 3, 8, 8), {"resize": "crop", "resize_shorter": 7}, "below the size 8x8"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(sizes, options, words):
    with pytest.raises(ConfigError, match=words):
        bound(sizes, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (0, 4)}, "no height and width"),
        ({"size": (4, 4, 4)}, "no height and width"),
        ({"size": "big"}, "no height and width"),
        ({"resize": "zoom"}, "resize 'zoom' is unknown; use one of stretch, crop, pad"),
        ({"interpolation": "magic"}, "interpolation 'magic' is unknown"),
        ({"layout": "chw"}, "layout 'chw' is unknown"),
        ({"colour": "cmyk"}, "colour 'cmyk' is unknown"),
        ({"scale": "much"}, "scale 'much' is no number"),
        ({"scale": "1/0"}, "scale '1/0' is no number"),
        ({"scale": 0}, "scale 0 would erase"),
        ({"mean": ()}, "mean is empty"),
        ({"mean": (0.1, None)}, "mean None is no number"),
        ({"std": (1.0, 0.0)}, "std 0 would divide by zero"),
        ({"fill": 256}, "fill 256 is no pixel value"),
        ({"resize_shorter": 8}, "resize_shorter goes with resize 'crop'"),
        ({"resize": "crop", "resize_shorter": 0}, "is no number of pixels"),
    ],
)
def test_values_of_no_use_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Preprocess(**options)


def test_a_file_gives_the_same_record(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(
        'size = [8, 6]\nresize = "crop"\nresize_shorter = 9\ninterpolation = "bicubic"\n'
        'layout = "nhwc"\ncolour = "bgr"\nscale = "1/128"\nmean = [0.1, 0.2, 0.3]\nstd = 2\n'
    )
    assert Preprocess.from_toml(file) == Preprocess(
        size=(8, 6), resize="crop", resize_shorter=9, interpolation="bicubic", layout="nhwc",
        colour="bgr", scale=1 / 128, mean=(0.1, 0.2, 0.3), std=2.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sizes = 3", "key 'sizes' is unknown; use size, resize,"),
        ("size = ", "is no valid TOML"),
        ("size = 'big'", "p.toml: size 'big' is no height and width"),
        ("layout = 3", "p.toml: layout '3' is unknown"),
        ("mean = true", "p.toml: mean True is no number"),
    ],
)
def test_a_file_of_no_use_is_refused(text, words, tmp_path):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        Preprocess.from_toml(tmp_path / "p.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"p\.toml cannot be read: No such file"):
        Preprocess.from_toml(tmp_path / "p.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no valid TOML"):
        Preprocess.from_toml(tmp_path / "p.toml")
