"""Tolerance mode without labels: the divergence from the original."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_scsp
from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate import Predictor
from onnx_scsp.tolerance import Tolerance, prune_within
from tolerance.searching import MODEL, Found, digits


@pytest.fixture(scope="module")
def diverging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Found, list[str]]]:
    folder = tmp_path_factory.mktemp("diverging")
    lines: list[str] = []
    found = prune_within(
        MODEL, folder / "o.onnx", Tolerance(max_divergence=0.1, resolution=0.2),
        calibration=digits(48), state=folder / "s.json", plan_out=folder / "p.json",
        progress=lambda what, _done, _total: lines.append(what),
    )  # fmt: skip
    yield folder, found, lines


def test_divergence_is_judged_on_inputs_that_repair_nothing(
    diverging: tuple[Path, Found, list[str]],
) -> None:
    folder, found, _ = diverging
    learn, held = digits(48).split(0.25)
    assert (learn.n_samples, held.n_samples) == (36, 12)
    original, small = (Predictor(path, threads=2) for path in (MODEL, folder / "o.onnx"))
    measured = onnx_scsp.evaluate.divergence(original, small, held)
    best = min((t for t in found.trials if t.within), key=lambda t: t.achieved)
    assert best.figure == best.loss == pytest.approx(measured, rel=1e-6)
    assert 0 < measured <= 0.1
    assert found.result.achieved == pytest.approx(best.achieved)
    assert best.achieved < 0.9
    assert found.result.report
    assert found.result.fits
    plan = onnx_scsp.read_plan(folder / "p.json")
    assert plan.config["method"] == "output-aware"
    assert onnx_scsp.verify(MODEL, folder / "o.onnx", plan)


def test_inputs_are_observed_once(diverging: tuple[Path, Found, list[str]]) -> None:
    _, found, lines = diverging
    assert len(found.trials) > 1
    assert lines.count("measuring groups") == len(found.result.plan.groups) + 1


def test_the_best_of_a_divergence_is_found_again(
    diverging: tuple[Path, Found, list[str]], tmp_path: Path
) -> None:
    folder, found, _ = diverging
    again = prune_within(
        MODEL, tmp_path / "o.onnx", Tolerance(max_divergence=0.1, resolution=0.2),
        calibration=digits(48), state=folder / "s.json",
    )  # fmt: skip
    assert again.trials == found.trials
    assert (tmp_path / "o.onnx").read_bytes() == (folder / "o.onnx").read_bytes()


def test_a_state_of_other_inputs_is_refused(
    diverging: tuple[Path, Found, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="its calibration is"):
        prune_within(
            MODEL, tmp_path / "o.onnx", Tolerance(max_divergence=0.1, resolution=0.2),
            calibration=digits(44), state=diverging[0] / "s.json",
        )  # fmt: skip


def test_divergence_needs_inputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --calib DATA"):
        prune_within(MODEL, tmp_path / "o.onnx", Tolerance(max_divergence=0.1))


def test_a_divergence_that_is_not_finite_is_kept_and_not_tolerated() -> None:
    from onnx_scsp.tolerance.state import Record

    tolerance = Tolerance(max_divergence=0.1)
    assert not tolerance.allows(0.0, math.inf)
    record = Record(None, {})
    record.add("x", 0.5, 0.5, math.inf)
    assert record.figures == {"x": (0.5, math.inf)}
