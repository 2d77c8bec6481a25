"""Metrics with answers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate import agreement, compare, divergence, gaps, top1

ROWS = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)


# ---- top-1 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 6, 20, 64])
def test_top1_counts_the_right_ones(batch, predictor, data_of):
    labels = ROWS.argmax(axis=1)
    labels[:5] = (labels[:5] + 1) % 3
    assert top1(predictor(), data_of(ROWS), labels, batch=batch) == 0.75


def test_top1_drops_axes_of_length_one(predictor, data_of):
    model = predictor(shape=("n", 3, 1, 1))
    data = data_of(ROWS.reshape(20, 3, 1, 1))
    assert top1(model, data, ROWS.argmax(axis=1)) == 1


def test_top1_takes_classes_as_they_are(predictor, data_of):
    model = predictor(then="ArgMax", axis=1, keepdims=0)
    assert top1(model, data_of(ROWS), ROWS.argmax(axis=1)) == 1


def test_top1_leaves_out_the_labels_of_dropped_samples(predictor, affine):
    from onnx_scsp.calibration import open_calibration

    data = open_calibration(ROWS, affine(shape=(8, 3)))
    assert top1(predictor(shape=(8, 3)), data, ROWS.argmax(axis=1)[:16]) == 1


@pytest.mark.parametrize(
    ("count", "words"),
    [(19, "there are 19 labels, and more"), (21, "there are 21 labels, and 20 samples")],
)
def test_top1_wants_one_label_per_sample(count, words, predictor, data_of):
    with pytest.raises(ConfigError, match=words):
        top1(predictor(), data_of(ROWS), np.zeros(count, np.int64))


@pytest.mark.parametrize("label", [-1, 3])
def test_top1_refuses_labels_beyond_the_classes(label, predictor, data_of):
    with pytest.raises(ConfigError, match="output 'y' has classes 0 to 2"):
        top1(predictor(), data_of(ROWS), np.full(20, label))


def test_top1_refuses_an_output_without_classes(predictor, data_of):
    maps = np.zeros((2, 3, 4, 4))
    with pytest.raises(ConfigError, match=r"is no row of class scores"):
        top1(predictor(shape=("n", 3, 4, 4)), data_of(maps), np.zeros(2, np.int64))


def test_top1_names_the_outputs_that_there_are(predictor, data_of):
    with pytest.raises(ConfigError, match="has no output 'z'; it has y"):
        top1(predictor(), data_of(ROWS), np.zeros(20, np.int64), "z")


# ---- agreement --------------------------------------------------------------------------------


def test_equal_models_agree(predictor, data_of):
    assert agreement(predictor(), predictor(2.0), data_of(ROWS)) == 1


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_agreement_is_the_share_of_equal_classes(batch, predictor, data_of):
    shift = [0.5, 0.0, 0.0]
    wanted = np.mean(ROWS.argmax(axis=1) == (ROWS + np.float32(shift)).argmax(axis=1))
    assert 0 < wanted < 1
    found = agreement(predictor(), predictor(shift=shift), data_of(ROWS), batch=batch)
    assert found == pytest.approx(wanted)


def test_agreement_on_maps_is_the_share_of_positions(predictor, data_of):
    maps = np.random.default_rng(1).standard_normal((4, 3, 5, 5)).astype(np.float32)
    shift = np.array([0.5, 0, 0], np.float32).reshape(1, 3, 1, 1)
    wanted = np.mean(maps.argmax(axis=1) == (maps + shift).argmax(axis=1))
    a, b = predictor(shape=("n", 3, 5, 5)), predictor(shift=shift, shape=("n", 3, 5, 5))
    assert agreement(a, b, data_of(maps)) == pytest.approx(wanted)


def test_agreement_on_steps_of_a_text_is_the_share_of_steps(predictor, data_of):
    steps = np.random.default_rng(1).standard_normal((4, 5, 3)).astype(np.float32)
    options = {"shape": ("n", 5, 3), "then": "Softmax", "axis": -1}
    shift = np.array([0.5, 0, 0], np.float32)
    wanted = np.mean(steps.argmax(axis=-1) == (steps + shift).argmax(axis=-1))
    assert 0 < wanted < 1
    found = agreement(predictor(**options), predictor(shift=shift, **options), data_of(steps))
    assert found == pytest.approx(wanted)


def test_agreement_on_classes_is_the_share_of_equal_ones(predictor, data_of):
    options = {"then": "ArgMax", "axis": 1, "keepdims": 0}
    shift = [0.5, 0.0, 0.0]
    scores = agreement(predictor(), predictor(shift=shift), data_of(ROWS))
    classes = agreement(predictor(**options), predictor(shift=shift, **options), data_of(ROWS))
    assert classes == scores


def test_one_number_per_sample_has_no_classes(predictor, data_of):
    one = predictor(shape=("n", 1))
    with pytest.raises(ConfigError, match="has no classes to agree on"):
        agreement(one, one, data_of(ROWS[:, :1]))


# ---- divergence -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "kl", "mse"])
def test_equal_models_do_not_diverge(kind, predictor, data_of):
    found = divergence(predictor(), predictor(), data_of(ROWS), kind)
    assert found == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_logits_diverge_by_the_kl_of_their_softmax(batch, predictor, data_of):
    p, q = softmax(ROWS, axis=1), softmax(2 * ROWS, axis=1)
    found = divergence(predictor(), predictor(2.0), data_of(ROWS), batch=batch)
    assert found == pytest.approx(rel_entr(p, q).sum(axis=1).mean(), rel=1e-5)


def test_probabilities_diverge_by_their_kl(predictor, data_of):
    p, q = softmax(ROWS, axis=1), softmax(2 * ROWS, axis=1)
    a, b = predictor(then="Softmax", axis=1), predictor(2.0, then="Softmax", axis=1)
    found = divergence(a, b, data_of(ROWS))
    assert found == pytest.approx(rel_entr(p, q).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_maps_of_probabilities_diverge_by_their_mean_kl(axis, predictor, data_of):
    """One distribution per position: over the channels of a map, or the classes of a step."""
    maps = np.random.default_rng(1).standard_normal((4, 3, 5, 6)).astype(np.float32)
    maps = maps[:, :, :, 0] if axis == 2 else maps
    options = {"shape": ("n", *maps.shape[1:]), "then": "Softmax", "axis": axis}
    a, b = predictor(**options), predictor(2.0, **options)
    p, q = softmax(maps, axis=axis), softmax(2 * maps, axis=axis)
    found = divergence(a, b, data_of(maps), batch=3)
    assert found == pytest.approx(rel_entr(p, q).sum(axis=axis).mean(), rel=1e-5)
    assert divergence(a, b, data_of(maps), "kl") == found


def test_probabilities_along_an_inner_axis_are_an_ordinary_map(predictor, data_of):
    maps = np.random.default_rng(1).standard_normal((4, 3, 5, 6)).astype(np.float32)
    options = {"shape": ("n", 3, 5, 6), "then": "Softmax", "axis": 2}
    a, b = predictor(**options), predictor(2.0, **options)
    assert divergence(a, b, data_of(maps)) == divergence(a, b, data_of(maps), "mse") > 0


def test_more_classes_than_are_compared_at_once_make_no_difference(monkeypatch, predictor, data_of):
    a, b = predictor(then="Softmax", axis=1), predictor(2.0, then="Softmax", axis=1)
    whole = divergence(a, b, data_of(ROWS))
    monkeypatch.setattr(gaps, "_AT_ONCE", 7)
    assert divergence(a, b, data_of(ROWS)) == pytest.approx(whole, rel=1e-6)


def test_broken_probabilities_are_not_hidden(predictor, data_of):
    maps = np.ones((2, 3, 4), np.float32)
    whole = predictor(shape=("n", 3, 4), then="Softmax", axis=2)
    broken = predictor(float("nan"), shape=("n", 3, 4), then="Softmax", axis=2)
    assert not np.isfinite(divergence(whole, broken, data_of(maps)))


def test_a_probability_of_zero_keeps_the_divergence_finite(predictor, data_of):
    rows = [[1.0, 0.0], [0.0, 1.0]]
    a, b = predictor(shape=("n", 2)), predictor(-1.0, 1.0, shape=("n", 2))
    assert divergence(a, b, data_of(rows)) == pytest.approx(12 * np.log(10), rel=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_the_relative_error_is_that_of_all_samples(batch, predictor, data_of):
    a, b = ROWS + np.float32(100), ROWS * 2 + np.float32(100)
    wanted = np.square(a - b).sum() / np.square(a - a.mean()).sum()
    found = divergence(
        predictor(shift=100.0), predictor(2.0, 100.0), data_of(ROWS), "mse", batch=batch
    )
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_best_constant_has_a_relative_error_of_one(predictor, data_of):
    constant = predictor(0.0, float(ROWS.mean()))
    assert divergence(predictor(), constant, data_of(ROWS), "mse") == pytest.approx(1, rel=1e-5)


def test_maps_are_compared_by_their_relative_error(predictor, data_of):
    maps = np.random.default_rng(1).standard_normal((4, 3, 5, 5)).astype(np.float32)
    a, b = predictor(shape=("n", 3, 5, 5)), predictor(2.0, shape=("n", 3, 5, 5))
    data = data_of(maps)
    assert divergence(a, b, data) == divergence(a, b, data, "mse") > 0.9


def test_a_constant_reference_still_gives_a_figure(predictor, data_of):
    found = divergence(predictor(0.0, 1.0), predictor(0.0, 2.0), data_of(ROWS), "mse")
    assert np.isfinite(found)
    assert found > 1


def test_an_infinite_output_is_not_hidden(predictor, data_of):
    found = divergence(predictor(), predictor(1e38, 3e38), data_of(ROWS * 10), "mse")
    assert not np.isfinite(found)


def test_kl_does_not_suit_maps(predictor, data_of):
    model = predictor(shape=("n", 3, 5, 5))
    with pytest.raises(ConfigError, match=r"is no row of class scores .* use mse"):
        divergence(model, model, data_of(np.zeros((2, 3, 5, 5))), "kl")


def test_an_unknown_kind_is_refused(predictor, data_of):
    with pytest.raises(ConfigError, match="divergence 'js' is unknown; use one of auto, kl, mse"):
        divergence(predictor(), predictor(), data_of(ROWS), "js")


def test_outputs_of_different_shapes_cannot_be_compared(predictor, data_of):
    a = predictor(then="ArgMax", axis=1, keepdims=1, shape=("n", 3, 1))
    b = predictor(then="ArgMax", axis=1, keepdims=0, shape=("n", 3, 1))
    with pytest.raises(ConfigError, match="is 20x1x1 in the first model and 20x1 in the second"):
        compare(a, b, data_of(ROWS[:, :, None]))


def test_a_comparison_gives_both_figures_of_one_pass(predictor, data_of):
    a, b, data = predictor(), predictor(2.0, [1.0, 0, 0]), data_of(ROWS)
    found = compare(a, b, data)
    assert found.agreement == agreement(a, b, data)
    assert found.divergence == divergence(a, b, data)
    assert found.samples == 20
