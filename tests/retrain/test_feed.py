"""The order of samples is a function of seed and epoch; augmentation of seed, epoch and update."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_scsp.calibration import open_calibration
from onnx_scsp.errors import ConfigError
from onnx_scsp.retrain import feed as feed_module
from onnx_scsp.retrain.feed import augmented, epoch_order, open_feed
from onnx_scsp.retrain.options import Augment
from retrain.small_nets import images, plain, saved


@pytest.fixture
def model(tmp_path):
    return saved(plain(), tmp_path / "net.onnx")


def test_an_epoch_goes_through_every_sample_once() -> None:
    assert sorted(epoch_order(100, 0, 3)) == list(range(100))


def test_the_order_repeats_and_differs_between_epochs_and_seeds() -> None:
    assert (epoch_order(50, 1, 2) == epoch_order(50, 1, 2)).all()
    assert (epoch_order(50, 1, 2) != epoch_order(50, 1, 3)).any()
    assert (epoch_order(50, 1, 2) != epoch_order(50, 2, 2)).any()


def test_samples_come_in_the_order_asked_for(model) -> None:
    x = images(20)
    feed = open_feed(open_calibration(x, model), np.arange(20))
    found, labels = feed.take(np.array([7, 3, 3]))
    assert (found["x"] == x[[7, 3, 3]]).all()
    assert labels is not None
    assert labels.tolist() == [7, 3, 3]


def test_samples_that_do_not_fit_in_memory_are_the_same(model, monkeypatch) -> None:
    x = images(20)
    kept = open_feed(open_calibration(x, model), np.arange(20))
    monkeypatch.setattr(feed_module, "IN_MEMORY_BYTES", 1)
    read = open_feed(open_calibration(x, model), np.arange(20))
    assert read.arrays is None
    places = np.array([19, 0, 5, 5])
    assert (read.take(places)[0]["x"] == kept.take(places)[0]["x"]).all()


def test_a_functions_samples_are_kept(model) -> None:
    x = images(12)
    feed = open_feed(open_calibration(lambda: iter([{"x": x[:5]}, {"x": x[5:]}]), model), None)
    assert (feed.take(np.array([11, 4]))[0]["x"] == x[[11, 4]]).all()


def test_held_out_samples_are_not_trained_on(model) -> None:
    feed = open_feed(open_calibration(images(40), model), np.arange(40))
    train, held = feed.split(0.25, 0)
    assert (len(train), len(held)) == (30, 10)
    assert set(train.rows).isdisjoint(held.rows)
    assert len(feed.split(0.0, 0)[1]) == 0


def test_one_sample_cannot_be_parted(model) -> None:
    feed = open_feed(open_calibration(images(1), model), None)
    with pytest.raises(ConfigError, match="--held-out 0"):
        feed.split(0.5, 0)


def test_too_few_labels_are_named(model) -> None:
    with pytest.raises(ConfigError, match="20 samples, and there are 19 labels"):
        open_feed(open_calibration(images(20), model), np.arange(19))


def test_augmentation_repeats_for_one_update_and_differs_for_the_next() -> None:
    arrays, kind = {"x": images(16)}, Augment(flip=True, crop=2)
    first = augmented(arrays, kind, 0, 1, 2)["x"]
    assert (augmented(arrays, kind, 0, 1, 2)["x"] == first).all()
    assert (augmented(arrays, kind, 0, 1, 3)["x"] != first).any()


def test_flipping_mirrors_about_half_of_the_images() -> None:
    x = images(64)
    found = augmented({"x": x}, Augment(flip=True), 0, 0, 0)["x"]
    mirrored = (found == x[..., ::-1]).all(axis=(1, 2, 3))
    same = (found == x).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 16 < mirrored.sum() < 48


def test_cropping_shifts_and_fills_with_zeros() -> None:
    x = np.ones((32, 3, 8, 8), np.float32)
    found = augmented({"x": x}, Augment(crop=2), 0, 0, 0)["x"]
    assert found.shape == x.shape
    assert set(np.unique(found)) == {0.0, 1.0}
    assert found.sum(axis=(1, 2, 3)).min() >= 3 * 6 * 6


def test_channels_last_are_shifted_along_height_and_width() -> None:
    x = np.ones((32, 8, 8, 3), np.float32)
    x[..., 1] = 2.0
    found = augmented({"x": x}, Augment(crop=2), 0, 0, 0)["x"]
    assert set(np.unique(found[..., 1])) == {0.0, 2.0}


def test_what_is_no_image_stays() -> None:
    arrays = {"x": images(4), "mask": np.ones((4, 5), np.float32)}
    assert augmented(arrays, Augment(flip=True), 0, 0, 0)["mask"] is arrays["mask"]
