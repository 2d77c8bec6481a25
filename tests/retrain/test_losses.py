"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from onnx_scsp.errors import ConfigError  # noqa: E402
from onnx_scsp.retrain.losses import (  # noqa: E402
    Objective,
    are_probabilities,
    are_scores,
    check_labels,
    cross_entropy,
    distance,
    feature_distance,
)


def objective(**options: object) -> Objective:
    given = {"outputs": ("y",), "scores": "y", "probabilities": frozenset(), "share": 0.0}
    return Objective(**(given | options))


def test_cross_entropy_is_the_mean_of_minus_log_p() -> None:
    scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    found = cross_entropy(scores, torch.tensor([1, 0]), probabilities=False)
    assert float(found) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)


def test_an_output_of_probabilities_counts_as_its_logarithm() -> None:
    rows = torch.tensor([[0.25, 0.75]])
    assert are_probabilities(rows)
    found = cross_entropy(rows, torch.tensor([1]), probabilities=True)
    assert float(found) == pytest.approx(-math.log(0.75))


def test_scores_of_a_global_pool_are_scores() -> None:
    assert are_scores(torch.zeros(4, 10, 1, 1))
    assert not are_scores(torch.zeros(4, 3, 8, 8))
    assert not are_scores(torch.zeros(4, 3, dtype=torch.int64))


def test_distillation_of_scores_is_the_tempered_divergence() -> None:
    teacher = torch.tensor([[2.0 * math.log(3.0), 0.0]])  # at T = 2: 3/4, 1/4
    student = torch.tensor([[0.0, 0.0]])
    found = distance(student, teacher, 2.0, probabilities=False)
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(found) == pytest.approx(4.0 * by_hand)


def test_distillation_of_anything_else_is_the_error_over_the_variance() -> None:
    teacher = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])  # variance 5
    found = distance(teacher + 1.0, teacher, 4.0, probabilities=False)
    assert float(found) == pytest.approx(1.0 / 5.0)


def test_features_are_compared_relative_to_their_size() -> None:
    teacher = {"a": torch.tensor([2.0, 2.0]), "b": torch.tensor([1.0, 0.0])}
    student = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([1.0, 0.0])}
    assert float(feature_distance(student, teacher, ["a", "b"])) == pytest.approx(0.125)


def test_labels_and_distillation_are_weighed() -> None:
    scores, wanted = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    truth = torch.tensor([0])
    both = objective(share=0.25, temperature=1.0)({"y": scores}, {"y": wanted}, truth)
    labels = cross_entropy(scores, truth, probabilities=False)
    outputs = distance(scores, wanted, 1.0, probabilities=False)
    assert float(both) == pytest.approx(0.75 * float(labels) + 0.25 * float(outputs))


def test_a_perfect_student_has_no_distillation_loss() -> None:
    wanted = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    found = objective(share=1.0)({"y": wanted}, {"y": wanted}, None)
    assert float(found) == pytest.approx(0.0, abs=1e-6)


def test_labels_that_are_wanted_and_missing_are_an_error() -> None:
    with pytest.raises(ConfigError, match="needs labels"):
        objective()({"y": torch.zeros(1, 2)}, None, None)


def test_a_loss_of_the_callers_own_gets_outputs_and_labels() -> None:
    def mine(outputs, labels):
        return (outputs["y"][:, 0] * labels).sum()

    scores = torch.tensor([[3.0, 0.0]], requires_grad=True)
    found = objective(own=mine)({"y": scores}, None, torch.tensor([2]))
    assert found.item() == 6.0


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (lambda outputs, labels: 1 / 0, "mine fails: ZeroDivisionError"),
        (lambda outputs, labels: 3.0, "returns no loss"),
        (lambda outputs, labels: torch.tensor(1.0), "returns no loss"),
    ],
)
def test_a_loss_that_does_not_work_is_named(mine, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        objective(own=mine, own_name="mine")({"y": torch.zeros(1, 2)}, None, torch.tensor([0]))


@pytest.mark.parametrize("labels", [[0, 5], [-1, 0]])
def test_labels_outside_the_classes_are_refused(labels: list[int]) -> None:
    with pytest.raises(ConfigError, match="none of the network's 5 classes"):
        check_labels(torch.tensor(labels), 5, "the labels")
