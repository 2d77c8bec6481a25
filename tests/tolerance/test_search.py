"""Tolerance mode: which cut it finds, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from net_builder import image
from nets import NETS

import onnx_scsp
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.errors import BudgetError, ConfigError, ModelError, OutputError, VerifyError
from onnx_scsp.evaluate import Predictor
from onnx_scsp.tolerance import Tolerance, Trial, prune_within
from tolerance.searching import BARE, MODEL, Sized, search


@pytest.mark.parametrize("target", ["macs", "params"])
@pytest.mark.parametrize("drop", [0.1, 0.37, 0.8])
def test_the_boundary_is_found_with_few_evaluations(
    drop: float, target: str, tmp_path: Path
) -> None:
    metric = Sized(target)
    found = search(tmp_path, metric, drop, PruneConfig(target=target, synthetic=False))
    assert metric.calls == len(found.trials) + 1 <= 8
    assert 1 - drop <= found.result.achieved <= 1 - drop + 0.02 + 0.01
    failed = [trial.achieved for trial in found.trials if not trial.within]
    assert max(failed) < 1 - drop
    assert min(t.achieved for t in found.trials if t.within) == pytest.approx(found.result.achieved)
    assert found.original == 1.0
    assert found.result.report
    assert found.result.output.exists()


def test_every_trial_is_told_with_its_figures(tmp_path: Path) -> None:
    found = search(tmp_path, Sized(), 0.5)
    for trial in found.trials:
        assert trial.figure == pytest.approx(trial.achieved)
        assert trial.loss == pytest.approx(1 - trial.achieved)
        assert trial.within == (trial.achieved >= 0.5)
        assert trial.achieved <= trial.fraction
    assert found.result.target == ("macs", min(t.fraction for t in found.trials if t.within))


def test_channels_can_be_what_becomes_few(tmp_path: Path) -> None:
    found = search(tmp_path, Sized(), 0.5, PruneConfig(target="ratio", synthetic=False))
    assert found.result.target[0] == "ratio"
    within = [trial for trial in found.trials if trial.within]
    assert min(t.achieved for t in within) == pytest.approx(found.result.achieved)
    assert found.result.after.macs >= 0.5 * found.result.before.macs


def test_a_tolerance_that_allows_everything_ends_at_the_lowest_fraction(tmp_path: Path) -> None:
    found = search(tmp_path, Sized(), 1.0, lowest=0.2)
    assert all(trial.within for trial in found.trials)
    assert 0.2 <= found.result.achieved <= 0.22


def test_budgets_out_of_reach_cost_no_evaluation(tmp_path: Path) -> None:
    metric = Sized()
    config = PruneConfig(min_share=0.7, synthetic=False)
    found = search(tmp_path, metric, 1.0, config, lowest=0.05)
    floor = min(trial.achieved for trial in found.trials)
    with pytest.raises(BudgetError):
        onnx_scsp.make_plan(onnx_scsp.load(MODEL), dataclasses.replace(config, value=floor - 0.02))
    assert metric.calls == len(found.trials) + 1
    assert all(trial.within for trial in found.trials)


def test_the_search_stops_after_the_trials_allowed(tmp_path: Path) -> None:
    metric = Sized()
    found = search(tmp_path, metric, 0.4, most_trials=2)
    assert [trial.fraction for trial in found.trials] == [0.55, 0.775]
    assert metric.calls == 3
    assert found.result.achieved > 0.7


def test_rounding_does_not_decide() -> None:
    tolerance = Tolerance(max_drop=0.01, metric="a:b")
    assert 0.99 - 0.98 > 0.01
    assert tolerance.allows(0.99, 0.98)
    assert not tolerance.allows(0.99, 0.9799)
    assert tolerance.allows(0.5, 0.6)


def test_equal_cuts_are_measured_once(tmp_path: Path) -> None:
    metric = Sized()
    config = PruneConfig(align=32, synthetic=False)
    found = search(tmp_path, metric, 0.3, config, resolution=0.001, most_trials=30)
    assert metric.calls == len(found.trials) + 1
    assert len({trial.achieved for trial in found.trials}) == len(found.trials)


@pytest.mark.parametrize("method", ["scsp", "random", "one-per-cluster"])
def test_loss_curves_are_drawn_once(method: str, tmp_path: Path) -> None:
    calls: list[str] = []
    entry = onnx_scsp.plan.METHODS[method]

    def counted(table: Any, tools: Any) -> Any:
        calls.append(table.group)
        return entry.curve(table, tools)

    choices = onnx_scsp.Choices(methods={method: dataclasses.replace(entry, curve=counted)})
    config = PruneConfig(method=method, compensate="merge", synthetic=False)
    tolerance = Tolerance(max_drop=0.5, metric=Sized())
    found = prune_within(MODEL, tmp_path / "o.onnx", tolerance, config, choices=choices)
    assert len(found.trials) > 3
    assert len(calls) == len(set(calls)) == len(found.result.plan.groups)
    same = onnx_scsp.make_plan(
        onnx_scsp.load(MODEL), dataclasses.replace(config, value=found.result.target[1])
    )
    assert same.cuts == found.result.plan.cuts


def test_progress_tells_each_trial(tmp_path: Path) -> None:
    lines: list[str] = []
    tolerance = Tolerance(max_drop=0.5, metric=Sized())
    found = prune_within(
        MODEL, tmp_path / "o.onnx", tolerance, BARE,
        progress=lambda what, _done, _total: lines.append(what),
    )  # fmt: skip
    told = [line for line in lines if line.startswith("trial") and "loss" in line]
    assert len(told) == len(found.trials)
    assert told[0].startswith(f"trial 1: macs {found.trials[0].achieved:.4f}, loss")
    assert told[0].endswith(("within", "too much"))


def test_nothing_is_written_where_no_cut_is_tolerated(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"no cut stays within --max-drop 0.001: .*loses 0\.0"):
        search(tmp_path, Sized(), 0.001)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_nobody_can_reach_is_told_as_ever(tmp_path: Path) -> None:
    config = PruneConfig(min_share=0.99, synthetic=False)
    with pytest.raises(BudgetError, match="cannot be reached"):
        search(tmp_path, Sized(), 0.5, config)


def test_a_model_without_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing to prune"):
        search(tmp_path, Sized(), 0.5, PruneConfig(ignore=("*",), synthetic=False))


def test_a_winner_that_fails_verification_is_not_written(tmp_path: Path) -> None:
    strict = VerifyConfig(tolerance=0.0)
    tolerance = Tolerance(max_drop=0.5, metric=Sized(), most_trials=2)
    with pytest.raises(VerifyError):
        prune_within(MODEL, tmp_path / "o.onnx", tolerance, BARE, verify_config=strict)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one tolerance"),
        ({"max_drop": 0.1, "metric": "a:b", "max_divergence": 0.1}, "exactly one tolerance"),
        ({"max_drop": 0.1}, "--metric module:function go together"),
        ({"max_divergence": 0.1, "metric": "a:b"}, "go together"),
        ({"max_drop": -0.1, "metric": "a:b"}, "--max-drop -0.1 is outside"),
        ({"max_drop": math.nan, "metric": "a:b"}, "outside"),
        ({"max_drop": "much", "metric": "a:b"}, "no number"),
        ({"max_divergence": math.inf}, "--max-divergence inf is outside"),
        ({"max_divergence": 1, "lowest": 0.0}, "lowest 0 is outside"),
        ({"max_divergence": 1, "lowest": 1.0}, "lowest 1 is outside"),
        ({"max_divergence": 1, "resolution": 0.0}, "resolution 0 is outside"),
        ({"max_divergence": 1, "resolution": 0.9}, "resolution 0.9 is outside"),
        ({"max_divergence": 1, "most_trials": 0}, "most_trials 0"),
        ({"max_divergence": 1, "most_trials": True}, "most_trials True"),
        ({"max_drop": 0.1, "metric": "a:b#"}, "module:function#key"),
        ({"max_drop": 0.1, "metric": "a:b#x", "key": "y"}, "module:function#key"),
    ],
)
def test_a_tolerance_of_no_use_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Tolerance(**options)


def test_one_of_several_figures_is_chosen(tmp_path: Path) -> None:
    size = Sized()

    def several(model: Predictor) -> dict[str, float]:
        return {"loss": -1.0, "size": size(model)}

    with pytest.raises(ConfigError, match=r"several returns loss, size; choose one as .*#loss"):
        search(tmp_path, several, 0.5)
    with pytest.raises(ConfigError, match=r"several returns no 'best' but loss, size"):
        search(tmp_path, several, 0.5, key="best")
    assert list(tmp_path.iterdir()) == []
    found = search(tmp_path, several, 0.5, key="size", most_trials=2)
    assert found.trials[0].figure == pytest.approx(found.trials[0].achieved)


def test_a_key_stands_behind_the_function() -> None:
    tolerance = Tolerance(max_drop=0.1, metric="my:metric#top1")
    assert (tolerance.metric, tolerance.key) == ("my:metric", "top1")
    assert tolerance.choose({"top1": 0.5, "top5": 0.9}) == 0.5


def test_paths_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    metric = Sized()
    tolerance = Tolerance(max_drop=0.5, metric=metric)
    out = tmp_path / "o.onnx"
    for options in (
        {"state": out}, {"state": MODEL}, {"state": tmp_path / "no" / "s.json"}, {"plan_out": out},
        {"state": tmp_path / "p", "plan_out": tmp_path / "p"},
    ):  # fmt: skip
        with pytest.raises(OutputError):
            prune_within(MODEL, out, tolerance, BARE, **options)
    assert metric.calls == 0


def test_external_data_and_another_network(tmp_path: Path) -> None:
    onnx.save(
        NETS["residual_projection"](), tmp_path / "a.onnx", save_as_external_data=True,
        size_threshold=0, location="w.bin",
    )  # fmt: skip
    seen = []

    def size(model: Predictor) -> float:
        assert model.path is not None
        seen.append(model.path)
        return find_coupling(onnx_scsp.load(model.path)).macs / 1e4

    tolerance = Tolerance(max_drop=1e4, metric=size, most_trials=2)
    found = prune_within(tmp_path / "a.onnx", tmp_path / "b.onnx", tolerance, BARE)
    assert found.result.report
    assert onnx_scsp.load(tmp_path / "b.onnx").external_files
    assert not any(path.exists() for path in seen[1:])
    assert [type(trial) for trial in found.trials] == [Trial, Trial]


def test_what_is_cut_approximately_is_cut_in_the_trials_too(tmp_path: Path) -> None:
    n, x = image()
    rows = n.op("Transpose", n.conv(x, 12), perm=[0, 2, 3, 1])
    rows = n.op("LayerNormalization", rows, n.positive(12), axis=-1)
    y = n.op("Transpose", rows, perm=[0, 3, 1, 2])
    n.channels[y] = 12
    onnx.save(n.build(n.head(y)), tmp_path / "a.onnx")
    config = PruneConfig(target="ratio", align=1, approximate=True, synthetic=False)
    tolerance = Tolerance(max_drop=0.0, metric=lambda _model: 1.0, most_trials=2)
    found = prune_within(tmp_path / "a.onnx", tmp_path / "b.onnx", tolerance, config)
    assert found.result.report
    assert found.result.after.macs < 0.6 * found.result.before.macs
    assert found.trials[-1].achieved == pytest.approx(found.result.achieved)


def test_the_public_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert onnx_scsp.Tolerance is Tolerance
    assert onnx_scsp.prune_within is prune_within
    assert "pickle" not in Path(sys.modules["onnx_scsp.tolerance.state"].__file__ or "").read_text()
