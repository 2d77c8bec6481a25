"""Records, splits, options and the page of the accuracy bench; no torch, no packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.accuracy


from tools.accuracy.catalog import BASELINE, METHODS, Sources, applies, tasks  # noqa: E402
from tools.accuracy.driver import key_of, read_records  # noqa: E402
from tools.accuracy.images import CALIBRATION, CIFAR_REPORT, TUNE, split_places  # noqa: E402
from tools.accuracy.page import _failures, _network  # noqa: E402
from tools.accuracy.targets import best_rival, lost, section  # noqa: E402
from tools.bench_accuracy import chosen_by  # noqa: E402


def record(method, budget, top1, **more):
    left = {"network": "resnet20_folded", "method": method, "budget": budget, "split": "tune"}
    return {
        **left,
        "outcome": "ok",
        "macs": 1e6,
        "macs_left": budget,
        "metrics": {"top1": top1, "samples": 100},
        "seconds": 1.0,
        "limit": 10.0,
        "versions": {"rev": "r", "code": "c"},
        **more,
    }


def known(*records):
    return {key_of(entry): entry for entry in records}


RECORDS = known(
    record(BASELINE.name, 1.0, 90.0),
    record("ours", 0.7, 80.0),
    record("ours-calib", 0.7, 89.5),
    record("kmeans", 0.7, 81.0),
    record("onnxsim-wanda", 0.7, 85.0),
    record("tp-taylor-global", 0.7, 88.0),
    record("onnxsim", 0.7, 0.0, outcome="error", error="a | sentence"),
)


def test_the_newest_record_counts_and_a_cut_line_is_skipped(tmp_path):
    lines = [record("ours", 0.7, 1.0), record("ours", 0.7, 2.0)]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"network": "resn')
    (found,) = read_records(path).values()
    assert found["metrics"]["top1"] == 2.0
    assert read_records(tmp_path / "none.jsonl") == {}


def test_splits_share_no_image():
    parts = [set(split_places(s, CIFAR_REPORT, 50_000)) for s in ("calib", "tune", "report")]
    assert [len(part) for part in parts] == [CALIBRATION, TUNE, 5_000]
    assert len(set.union(*parts)) == CALIBRATION + TUNE + 5_000
    assert min(parts[2]) == CIFAR_REPORT


def test_points_lost():
    key = ("resnet20_folded", "ours", 0.7, "tune")
    assert lost(RECORDS, key, "top1") == 10.0
    assert lost(RECORDS, ("resnet20_folded", "onnxsim", 0.7, "tune"), "top1") is None
    assert lost(RECORDS, ("resnet20_folded", "ours", 0.5, "tune"), "top1") is None


@pytest.mark.parametrize(("data", "points"), [("none", 9.0), ("inputs", 5.0), ("labels", 2.0)])
def test_the_best_rival_had_no_more_data(data, points):
    found = best_rival(RECORDS, "resnet20_folded", 0.7, "tune", "top1", data)
    assert found is not None
    assert found[0] == points


def test_targets_are_met_or_not_by_the_records():
    rows = section(RECORDS, [("resnet20_folded", "ResNet-20", "top1")], "tune")
    text = "\n".join(rows)
    assert "0.8 points of top1 lost | resnet20_folded | 0.50 | met |" in text
    assert "5 points of top1 lost | resnet20_folded | not measured" in text
    assert "0 of 1 budgets; behind at 0.7: 10.0 to 9.0 | **not met** |" in text


@pytest.mark.parametrize(
    ("inner", "verdict"),
    [(89.0, "0.7: 0.5 to 1.0 | met |"), (89.9, "0.7: 0.5 to 0.1 | **not met** |")],
)
def test_what_a_part_adds_is_held_against_the_records(inner, verdict):
    records = RECORDS | known(record("ours-calib-inner", 0.7, inner))
    text = "\n".join(section(records, [("resnet20_folded", "ResNet-20", "top1")], "tune"))
    assert f"inner channels alone (points lost) | resnet20_folded | {verdict}" in text
    assert "uniform" not in text  # nothing was measured


def test_failures_keep_their_sentence():
    assert _failures(RECORDS)[-1] == "- resnet20_folded, onnxsim, at 0.7: a / sentence"


def test_the_table_of_a_network(tmp_path):
    pytest.importorskip("matplotlib")
    task = tasks(Sources("data", "", "", ""))[0]
    text = "\n".join(_network(RECORDS, task, "tune", tmp_path / "page.md"))
    assert "| onnx_scsp | none | **10.0** / 9.0 |" in text
    assert "| onnx_scsp, calibrated | inputs | **0.5** / 5.0 |" in text
    assert "| onnxsim L2, per layer | none | error |" in text
    assert (tmp_path / "page-resnet20_folded.svg").read_text().startswith("<?xml")


def test_names_and_beginnings_choose():
    assert chosen_by("", "anything")
    assert chosen_by("ours,tp-*", "tp-l2-global")
    assert not chosen_by("ours", "ours-calib")


def test_method_names_are_unique():
    names = [method.name for method in METHODS]
    assert len(set(names)) == len(names)


def test_methods_are_not_asked_for_what_a_network_lacks():
    by_name = {task.name: task for task in tasks(Sources("data", "packages", "", ""))}
    by_method = {method.name: method for method in METHODS}
    assert applies(by_method["tp-bn-global"], by_name["resnet20_bn"])
    assert not applies(by_method["tp-bn-global"], by_name["resnet20_folded"])
    assert not applies(by_method["tp-l2-global-bn"], by_name["resnet20_folded"])
    assert not applies(by_method["tp-taylor-global"], by_name["recogniser"])
    assert all(applies(m, t) for m in METHODS if m.tool == "ours" for t in by_name.values())


def test_networks_without_a_folder_are_left_out():
    assert tasks(Sources("", "", "", "cache")) == ()
    assert {task.family for task in tasks(Sources("", "", "x", "cache"))} == {"fashion"}
