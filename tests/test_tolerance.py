"""The smallest model within a tolerance: known answers, few evaluations, resumable."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from net_builder import image
from nets import NETS
from sklearn.datasets import load_digits

import onnx_scsp
from onnx_scsp.calibration import CalibrationData, open_calibration
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.errors import BudgetError, ConfigError, ModelError, OutputError, VerifyError
from onnx_scsp.evaluate import Predictor
from onnx_scsp.tolerance import Tolerance, Trial, WithinTolerance, prune_within

MODEL = Path(__file__).resolve().parents[1] / "models" / "digits_bn.onnx"
FOLDED = MODEL.with_name("digits_folded.onnx")
BARE = PruneConfig(synthetic=False)
Found = WithinTolerance


class Sized:
    """A metric that is the model's own size: a drop of d allows exactly the share 1 - d."""

    def __init__(self, target: str = "macs") -> None:
        self.target = target
        self.calls = 0
        self.fail_at = 0
        self.whole = self._size(MODEL)

    def _size(self, path: Path) -> int:
        coupling = find_coupling(onnx_scsp.load(path))
        return coupling.macs if self.target == "macs" else coupling.map.params

    def __call__(self, model: Predictor) -> float:
        self.calls += 1
        if self.calls == self.fail_at:
            raise ValueError("planted")
        assert model.path is not None
        return self._size(model.path) / self.whole


def search(
    folder: Path, metric: Callable[..., Any] | str, drop: float, config: PruneConfig = BARE,
    state: str | None = None, **options: Any,
) -> Found:  # fmt: skip
    return prune_within(
        MODEL,
        folder / "out.onnx",
        Tolerance(max_drop=drop, metric=metric, **options),
        config,
        state=None if state is None else folder / state,
    )


def digits(count: int) -> CalibrationData:
    images = (load_digits().images[:count, None] / 16).astype(np.float32)
    return open_calibration(images, onnx_scsp.load(MODEL))


# ---- known answers ----------------------------------------------------------------------------


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
    assert told[0].startswith("trial 1: macs 0.54")
    assert told[0].endswith(("within", "too much"))


# ---- what cannot be ---------------------------------------------------------------------------


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


# ---- the state --------------------------------------------------------------------------------


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = search(tmp_path / "whole", Sized(), 0.37, state="s.json")
    metric = Sized()
    metric.fail_at = 4  # the original, then trial 3
    with pytest.raises(ConfigError, match="planted"):
        search(tmp_path, metric, 0.37, state="s.json")
    kept = json.loads((tmp_path / "s.json").read_text())
    assert len(kept["trials"]) == 2
    assert not (tmp_path / "out.onnx").exists()
    again = Sized()
    found = search(tmp_path, again, 0.37, state="s.json")
    assert found.trials == whole.trials
    assert again.calls == len(whole.trials) - 2
    for name in ("out.onnx", "s.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_search_measures_nothing_again(tmp_path: Path) -> None:
    first = search(tmp_path, Sized(), 0.37, state="s.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    metric = Sized()
    second = search(tmp_path, metric, 0.37, state="s.json")
    assert metric.calls == 0
    assert second.trials == first.trials
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_search_may_go_on_more_finely(tmp_path: Path) -> None:
    first = search(tmp_path, Sized(), 0.37, state="s.json", most_trials=2)
    metric = Sized()
    second = search(tmp_path, metric, 0.37, state="s.json", resolution=0.01)
    assert second.trials[:2] == first.trials
    assert metric.calls == len(second.trials) - 2 > 0


def test_the_same_search_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        found = search(tmp_path, Sized(), 0.6)
        made.append((found.trials, found.result.output.read_bytes()))
    assert made[0] == made[1]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    search(tmp_path, Sized(), 0.5, state="s.json", most_trials=1)
    return tmp_path / "s.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": FOLDED}, 'its model is "'),
        ({"drop": 0.2}, "its max_drop is 0.5, now it is 0.2"),
        (
            {"config": PruneConfig(align=2, synthetic=False)},
            'its config align is "auto", now it is 2',
        ),
        ({"config": PruneConfig(target="params", synthetic=False)}, "config target"),
        ({"metric": lambda _model: 1.0}, "its metric is"),
        ({"lowest": 0.3}, "its lowest is 0.1, now it is 0.3"),
        ({"calibration": 12}, "its calibration is"),
        ({"shapes": {"image": (2, 1, 8, 8)}}, "its input shapes is"),
    ],
)
def test_the_state_of_another_search_is_refused(
    change: dict[str, Any], words: str, state: Path
) -> None:
    before = state.read_bytes()
    data = digits(change["calibration"]) if "calibration" in change else None
    options = {"lowest": change["lowest"]} if "lowest" in change else {}
    drop, metric = change.get("drop", 0.5), change.get("metric", Sized())
    with pytest.raises(ConfigError, match=words):
        prune_within(
            change.get("model", MODEL),
            state.with_name("other.onnx"),
            Tolerance(max_drop=drop, metric=metric, **options),
            change.get("config", BARE),
            calibration=data,
            state=state,
            verify_config=VerifyConfig(input_shapes=change.get("shapes", {})),
        )
    assert state.read_bytes() == before
    assert not state.with_name("other.onnx").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": 2}', '{"schema": 1, "search": {}}', "\udcff",
     '{"schema": 1, "search": {}, "original": 1, "trials": [{"cuts": 1}]}',
     '{"schema": 1, "search": {}, "original": "x", "trials": []}'],
)  # fmt: skip
def test_a_file_that_is_no_state_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError, match="is no state of a search"):
        search(tmp_path, Sized(), 0.5, state="s.json")


# ---- divergence -------------------------------------------------------------------------------


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


# ---- models of other kinds --------------------------------------------------------------------


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
