"""Tolerance mode goes on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.errors import ConfigError
from onnx_scsp.tolerance import Tolerance, prune_within
from tolerance.searching import BARE, FOLDED, MODEL, Sized, digits, search


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
