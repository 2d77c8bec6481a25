"""Folders of images become the arrays that one would have made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from onnx_scsp.calibration import Preprocess, open_calibration
from onnx_scsp.errors import ConfigError


def read(data, size=3, name="x"):
    return np.concatenate([batch[name] for batch in data.batches(size)])


def one_image(path, array):
    path.mkdir()
    Image.fromarray(array).save(path / "i.png")
    return path


def test_a_folder_equals_the_same_arrays_from_a_file(folder, pixels, model_of, tmp_path):
    model = model_of(x=["n", 3, 6, 5])
    np.savez(tmp_path / "same.npz", x=pixels.transpose(0, 3, 1, 2) / 255)
    from_file = read(open_calibration(tmp_path / "same.npz", model))
    np.testing.assert_allclose(read(open_calibration(folder, model)), from_file, atol=1e-7)


def test_channels_last_models_get_channels_last(folder, pixels, model_of):
    found = read(open_calibration(folder, model_of(x=["n", 6, 5, 3])))
    np.testing.assert_allclose(found, pixels / 255, atol=1e-7)


def test_scale_mean_and_std_are_applied_in_this_order(folder, pixels, model_of):
    recipe = Preprocess(scale=0.5, mean=(1, 2, 3), std=(4, 5, 6))
    found = read(open_calibration(folder, model_of(x=["n", 6, 5, 3]), preprocess=recipe))
    np.testing.assert_allclose(found, (pixels * 0.5 - [1, 2, 3]) / [4, 5, 6], rtol=1e-5, atol=1e-6)


def test_bgr_turns_the_channels_round(folder, pixels, model_of):
    recipe = Preprocess(colour="bgr", scale=1)
    found = read(open_calibration(folder, model_of(x=["n", 6, 5, 3]), preprocess=recipe))
    np.testing.assert_array_equal(found, pixels[..., ::-1])


def test_an_integer_input_gets_pixel_values(folder, pixels, model_of):
    model = model_of(elem_type=TensorProto.UINT8, x=["n", 6, 5, 3])
    found = read(open_calibration(folder, model))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


def test_values_beyond_an_integer_input_are_clipped(folder, pixels, model_of):
    model = model_of(elem_type=TensorProto.INT8, x=["n", 6, 5, 3])
    found = read(open_calibration(folder, model, preprocess=Preprocess(mean=100)))
    np.testing.assert_array_equal(found, np.minimum(pixels.astype(int) - 100, 127))


def test_half_precision_models_get_half_precision(folder, model_of):
    model = model_of(elem_type=TensorProto.FLOAT16, x=["n", 3, 6, 5])
    assert read(open_calibration(folder, model)).dtype == np.float16


def test_gray_images_are_repeated_for_a_colour_model(tmp_path, model_of):
    gray = np.arange(30, dtype=np.uint8).reshape(6, 5)
    data = open_calibration(
        one_image(tmp_path / "f", gray),
        model_of(x=["n", 3, 6, 5]),
        preprocess=Preprocess(colour="gray", scale=1),
    )
    np.testing.assert_array_equal(read(data)[0], np.stack([gray] * 3))


def test_opacity_is_the_fourth_channel(tmp_path, model_of):
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    data = open_calibration(
        one_image(tmp_path / "f", image),
        model_of(x=["n", 6, 5, 4]),
        preprocess=Preprocess(colour="bgr", scale=1),
    )
    np.testing.assert_array_equal(read(data)[0], image[..., [2, 1, 0, 3]])


def test_images_of_16_bits_keep_their_range(tmp_path, model_of):
    deep = (np.arange(30, dtype=np.uint16) * 257).reshape(6, 5)
    data = open_calibration(
        one_image(tmp_path / "f", deep),
        model_of(x=["n", 1, 6, 5]),
        preprocess=Preprocess(scale=1),
    )
    np.testing.assert_array_equal(read(data)[0, 0], deep // 257)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path, model_of):
    image = Image.fromarray(np.full((6, 5, 3), 200, np.uint8)).quantize(4)
    (tmp_path / "f").mkdir()
    image.save(tmp_path / "f" / "i.png", transparency=bytes([10, 20, 30, 40]))
    data = open_calibration(
        tmp_path / "f", model_of(x=["n", 6, 5, 3]), preprocess=Preprocess(scale=1)
    )
    np.testing.assert_array_equal(read(data)[0], 200)


def stripes(wide, tall):
    """Column c has value 10 c."""
    return np.tile(np.arange(wide, dtype=np.uint8) * 10, (tall, 1))


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        ({"resize": "crop"}, [20, 30, 40, 50]),
        ({"resize": "crop", "resize_shorter": 4}, [20, 30, 40, 50]),
        ({"resize": "stretch"}, [10, 30, 50, 70]),
        ({"resize": "pad", "fill": 9}, [10, 30, 50, 70]),
    ],
)
def test_resizing_keeps_what_it_says(recipe, wanted, tmp_path, model_of):
    data = open_calibration(
        one_image(tmp_path / "f", stripes(8, 4)),
        model_of(x=["n", 1, 4, 4]),
        preprocess=Preprocess(scale=1, interpolation="nearest", **recipe),
    )
    np.testing.assert_array_equal(read(data)[0, 0, 1], wanted)


def test_padding_is_spread_on_both_sides(tmp_path, model_of):
    data = open_calibration(
        one_image(tmp_path / "f", stripes(8, 4)),
        model_of(x=["n", 1, 4, 4]),
        preprocess=Preprocess(scale=1, interpolation="nearest", resize="pad", fill=9),
    )
    np.testing.assert_array_equal(read(data)[0, 0][[0, 3]], 9)


def test_a_crop_after_resizing_the_shorter_side_keeps_the_centre(tmp_path, model_of):
    data = open_calibration(
        one_image(tmp_path / "f", stripes(16, 8)),
        model_of(x=["n", 1, 2, 2]),
        preprocess=Preprocess(scale=1, interpolation="nearest", resize="crop", resize_shorter=8),
    )
    np.testing.assert_array_equal(read(data)[0, 0], [[70, 80], [70, 80]])


def test_images_keep_their_own_size_where_nobody_asks_for_one(tmp_path, model_of):
    folder = one_image(tmp_path / "f", stripes(8, 4))
    Image.fromarray(stripes(8, 4)).save(folder / "j.png")
    Image.fromarray(stripes(3, 7)).save(folder / "k.png")
    batches = open_calibration(folder, model_of(x=["n", 1, "h", "w"])).batches(3)
    assert [batch["x"].shape for batch in batches] == [(2, 1, 4, 8), (1, 1, 7, 3)]


def test_images_of_different_sizes_cannot_share_a_fixed_batch(tmp_path, model_of):
    folder = one_image(tmp_path / "f", stripes(8, 4))
    Image.fromarray(stripes(3, 7)).save(folder / "k.png")
    data = open_calibration(folder, model_of(x=[2, 1, "h", "w"]))
    with pytest.raises(ConfigError, match="cannot share the model's batch of 2"):
        list(data.batches(2))


def test_files_are_taken_by_name_at_any_depth_without_hidden_ones(folder, pixels, model_of):
    Image.fromarray(pixels[0]).save(folder / ".hidden.png")
    (folder / "a" / "notes.txt").write_text("no image")
    data = open_calibration(folder, model_of(x=["n", 3, 6, 5]))
    assert data.names == ("a/0.png", "a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png",
                          "b/6.png")  # fmt: skip


@pytest.mark.parametrize("content", [b"no image", b"", b"\x89PNG\r\n\x1a\n1234567890123456"])
def test_an_unreadable_image_is_named(content, folder, model_of):
    (folder / "a" / "broken.png").write_bytes(content)
    data = open_calibration(folder, model_of(x=["n", 3, 6, 5]))
    with pytest.raises(ConfigError, match=r"broken\.png cannot be read as an image"):
        list(data.batches(4))


def test_a_truncated_image_is_named(tmp_path, model_of):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = one_image(tmp_path / "f", noise) / "i.png"
    file.write_bytes(file.read_bytes()[:3000])
    data = open_calibration(file.parent, model_of(x=["n", 3, 8, 8]))
    with pytest.raises(ConfigError, match=r"i\.png cannot be read as an image"):
        list(data.batches(4))


def test_a_folder_without_images_is_refused(tmp_path, model_of):
    with pytest.raises(ConfigError, match="holds no images"):
        open_calibration(tmp_path, model_of(x=["n", 3, 6, 5]))


def test_images_cannot_feed_two_inputs(folder, model_of):
    with pytest.raises(ConfigError, match="images feed one input, the model has x, y"):
        open_calibration(folder, model_of(x=["n", 3, 6, 5], y=["n", 3, 6, 5]))


def test_the_fingerprint_depends_on_pixels_not_on_times_or_place(folder, model_of, tmp_path):
    model = model_of(x=["n", 3, 6, 5])
    before = open_calibration(folder, model).fingerprint()
    moved = folder.rename(tmp_path / "moved")
    (moved / "a" / "0.png").touch()
    assert open_calibration(moved, model).fingerprint() == before
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(moved / "a" / "0.png")
    assert open_calibration(moved, model).fingerprint() != before


def test_the_fingerprint_depends_on_the_preprocessing(folder, model_of):
    model = model_of(x=["n", 3, 6, 5])
    recipes = (Preprocess(), Preprocess(mean=0.5), Preprocess(colour="bgr"))
    found = {open_calibration(folder, model, preprocess=r).fingerprint() for r in recipes}
    assert len(found) == 3
