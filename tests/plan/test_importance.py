"""Scores from a file: what is read, and what is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph.small import DIGITS

import onnx_scsp
from onnx_scsp.errors import ConfigError
from onnx_scsp.plan import read_importance

CONFIG = onnx_scsp.PruneConfig(target="ratio", value=0.5, method="importance", synthetic=False)
MODEL = DIGITS / "digits_bn.onnx"


def weights() -> dict[str, int]:
    """Weights of the model, and the channels that each makes."""
    proto = onnx_scsp.load(MODEL).proto
    return {t.name: t.dims[0] for t in proto.graph.initializer if len(t.dims) > 1}


def plan(scores: dict[str, np.ndarray], config: onnx_scsp.PruneConfig = CONFIG) -> None:
    choices = onnx_scsp.Choices(importance=scores)
    onnx_scsp.make_plan(onnx_scsp.load(MODEL), config, choices=choices)


def good() -> dict[str, np.ndarray]:
    return {name: np.arange(1.0, size + 1) for name, size in weights().items()}


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **good())
    found = read_importance(tmp_path / "s.npz")
    assert found.keys() == good().keys()
    assert all(np.array_equal(found[name], score) for name, score in good().items())
    plan(found)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rest", b"scores"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as"):
        read_importance(tmp_path / "s.npz")


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=np.array([{"code": 1}], dtype=object))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_importance(tmp_path / "s.npz")


def test_a_single_array_names_no_weight(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.ones(3))
    with pytest.raises(ConfigError, match="names of weights"):
        read_importance(tmp_path / "s.npy")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_importance(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (np.ones((2, 2)), "of 2 axes"),
        (np.array(["a"]), "one number per channel"),
        (np.ones(1), "1 scores for"),
        (-np.ones(64), "scores for|negative"),
        (np.full(64, np.nan), "scores for|no finite"),
    ],
)
def test_scores_of_another_form_are_refused(score: np.ndarray, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(good() | {next(iter(weights())): score})


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_scores_that_do_not_rank_are_refused(bad: float) -> None:
    scores = good()
    next(iter(scores.values()))[0] = bad
    with pytest.raises(ConfigError, match="negative or no finite"):
        plan(scores)


def test_a_name_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="'conv9', which is no weight"):
        plan(good() | {"conv9": np.ones(3)})


def test_a_group_without_a_score_is_named() -> None:
    name, score = list(good().items())[-1]
    with pytest.raises(ConfigError, match="no score for group g"):
        plan({name: score})


def test_scores_that_nothing_uses_are_refused() -> None:
    with pytest.raises(ConfigError, match="neither --method nor --criterion is importance"):
        plan(good(), replace(CONFIG, method="l2"))
