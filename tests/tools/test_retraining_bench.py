"""The parts of the retraining benchmark that need no training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.retraining.catalog import ENTRIES, SETTINGS, TRAIN, UNLABELLED  # noqa: E402
from tools.retraining.driver import key_of, line, read_records  # noqa: E402
from tools.retraining.images import TRAINING, _places  # noqa: E402
from tools.retraining.page import BEGIN, END, render  # noqa: E402
from tools.retraining.plots import changes  # noqa: E402


def record(method: str = "scsp", seed: int = 0, **more: object) -> dict:
    head = {"setting": "small", "network": "resnet20", "method": method, "budget": 0.5,
            "seed": seed, "images": 5000, "epoch_count": 3, "outcome": "ok"}  # fmt: skip
    epochs = [
        {"epoch": 1, "metric_cut": 0.5, "kept": {"g00": "1100"}},
        {"epoch": 2, "metric_cut": 0.75, "kept": {"g00": "1010"}},
    ]
    return head | {"macs_left": 0.5, "params_left": 0.4, "epochs": epochs} | more


def test_reported_images_are_never_trained_on() -> None:
    train, report = _places("train", TRAINING), _places("report", 0)
    assert len(np.unique(train)) == TRAINING
    assert set(train).isdisjoint(report)
    assert set(_places("train", 100)) <= set(train)


def test_entries_are_options_that_exist() -> None:
    from onnx_scsp.config import PruneConfig
    from onnx_scsp.retrain import SCHEDULES, RetrainConfig

    names = {entry.name for entry in ENTRIES}
    assert len(names) == len(ENTRIES)
    assert names >= UNLABELLED
    assert all(set(setting.entries) <= names for setting in SETTINGS.values())
    for entry in ENTRIES:
        if entry.tool == "ours":
            assert RetrainConfig(**{**TRAIN, **entry.train}).method in SCHEDULES
            PruneConfig(**entry.cut)


def test_the_newest_record_counts_and_a_torn_line_does_not(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    lines = [json.dumps(record(report=0.1)), json.dumps(record(report=0.2))]
    file.write_text("\n".join(lines) + '\n{"setting": "sm')
    assert read_records(file)[key_of(record())]["report"] == 0.2


def test_channels_that_die_and_come_back_are_counted() -> None:
    assert changes(record()) == (1, 1)


def test_a_failure_is_told_in_one_line() -> None:
    failed = record(outcome="failed", error="no torch")
    assert "failed: no torch" in line(failed)
    assert "report 75.00%" in line(record(report=0.75))
    uncut = record(epochs=[{"epoch": 1, "metric_cut": None}, {"epoch": 2, "metric_cut": 0.5}])
    assert "held-out by epoch 0.500" in line(uncut)


def test_the_page_keeps_its_text_and_shows_mean_spread_and_drop(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "retrain.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    dense = {"setting": "dense", "network": "resnet20", "method": "dense", "budget": 1.0,
             "seed": 0, "images": 0, "epoch_count": 0, "report": 0.9}  # fmt: skip
    other = record("sfp", images=100, report=0.1)
    records = [
        dense,
        other,
        record(report=0.8),
        record(seed=1, report=0.84),
        record("l2", report=0.7),
    ]
    render({key_of(r): r for r in records}, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    first, second = text.split("### 100 training images")
    assert "soft filter pruning" not in first  # it trained on other images
    assert "soft filter pruning" in second
    assert "82.00 ± 2.83 | 8.00 |" in text
    assert "| L2, fine-tuned | 1 | 0.500 | 0.400 | 75.00 | 70.00 | 20.00 |" in text
    assert (tmp_path / "retrain-5k-3-resnet20-50.svg").exists()
    assert (tmp_path / "retrain-5k-3-resnet20-50-groups.svg").exists()


def test_what_there_are_no_records_of_stays_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    long = record("l2", images=45_000, epoch_count=20, report=0.9)
    other = record("l2", network="resnet32", report=0.6)
    render({key_of(r): r for r in (long, other, record("l2", report=0.7))}, page)
    whole = page.read_text()
    render({}, page)
    assert page.read_text() == whole
    fresh = record("l2", report=0.8)
    render({key_of(fresh): fresh}, page)
    assert page.read_text() == whole.replace("| 70.00 |", "| 80.00 |")
    assert whole.index("45,000 training") < whole.index("5,000 training images, 3 epochs")
