"""Options are judged where they enter; no PyTorch is needed for that."""

from __future__ import annotations

import math

import pytest

from onnx_scsp.errors import ConfigError
from onnx_scsp.retrain import SCHEDULES, RetrainConfig
from onnx_scsp.retrain.options import Augment, epochs_after_cut, parse_augment
from onnx_scsp.retrain.schedules import growing, shrinking

BAD = {
    "epochs": (0, "epochs 0"),
    "batch": (0, "batch 0"),
    "accumulate": (1.5, "accumulate 1.5"),
    "settle": (1.5, "settle 1.5"),
    "rate": (-1.0, "rate -1"),
    "momentum": (math.nan, "momentum nan"),
    "ema": (1.0, "ema 1"),
    "held_out": (0.95, "held-out 0.95"),
    "optimiser": ("adam", "use one of sgd, adamw"),
    "rates": ("step", "use one of cosine"),
    "precision": ("16", "use one of 32, bf16"),
    "penalty": ("l0", "use one of none, group"),
    "norm": ("none", "use one of auto, keep, slots"),
    "augment": ("rotate", "use flip and crop4"),
    "weight_decay": ("much", "is no number"),
    "seed": (True, "seed True"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_option_out_of_range_is_refused_in_one_sentence(name: str) -> None:
    value, words = BAD[name]
    with pytest.raises(ConfigError, match=words) as caught:
        RetrainConfig(**{name: value})
    assert "\n" not in str(caught.value)


def test_the_rate_that_is_not_given_depends_on_the_optimiser() -> None:
    assert RetrainConfig().largest_rate == 0.02
    assert RetrainConfig(optimiser="adamw").largest_rate == 5e-4
    assert RetrainConfig(rate=0.3).largest_rate == 0.3


def test_augmentation_is_read_from_words() -> None:
    assert parse_augment("flip, crop12") == Augment(flip=True, crop=12)
    assert not parse_augment("")


@pytest.mark.parametrize(
    ("epochs", "share", "wanted", "after"),
    [(5, 0.4, None, 2), (1, 0.4, None, 1), (5, 0.0, None, 0), (5, 1.0, None, 5), (4, 0.4, 0.0, 0),
     (10, 0.0, 0.01, 1)],
)  # fmt: skip
def test_epochs_are_shared_between_before_and_after_the_cut(
    epochs: int, share: float, wanted: float | None, after: int
) -> None:
    assert epochs_after_cut(RetrainConfig(epochs=epochs, settle=wanted), share) == after


def test_the_fractional_factor_falls_to_zero_and_is_three_quarters_done_after_an_eighth() -> None:
    factors = [shrinking(epoch, 16) for epoch in range(16)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert factors[1] == pytest.approx(0.25, abs=1e-3)


def test_the_pull_of_the_decaying_schedules_grows() -> None:
    left = [growing(epoch, 6) for epoch in range(6)]
    assert left == sorted(left, reverse=True)
    assert left[-1] == pytest.approx(0.001)


def test_the_table_names_its_entries() -> None:
    assert all(name == schedule.name and schedule.doc for name, schedule in SCHEDULES.items())
    assert {"scsp", "sfp", "bn-gamma", "fractional", "one-per-cluster", "finetune"} <= set(
        SCHEDULES
    )
