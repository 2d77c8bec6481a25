"""Figures and page of the speed bench from planted records; what is due and what is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.speed


from tools.coverage.catalog import Network  # noqa: E402
from tools.coverage.ours import count  # noqa: E402
from tools.records import append  # noqa: E402
from tools.speed import cost, driver  # noqa: E402
from tools.speed.catalog import AGAIN, DENSE, NETWORKS, variants  # noqa: E402
from tools.speed.figures import against, best_rival, floor, ratio  # noqa: E402
from tools.speed.grown import write  # noqa: E402
from tools.speed.page import render  # noqa: E402
from tools.speed.timing import time_files  # noqa: E402

VERSIONS = {"rev": "r", "code": "c" * 12, "torch": "2"}
EVERY = variants((), ("4",))


def record(stage: str, network: str, what: str, **more: object) -> dict:
    named = {"stage": stage, "network": network, "what": what, "outcome": "ok"}
    return {**named, "versions": VERSIONS, "machine": "m", "seconds": 1.0, **more}


def timed(network: str, threads: int, **medians: float) -> dict:
    """Rounds whose medians are given, all with the same drift and a little noise."""
    rng = np.random.default_rng(0)
    drift = 1 + np.arange(40) / 80
    named = {DENSE: 10.0, AGAIN: 10.0, **{name.replace("_", "-"): v for name, v in medians.items()}}
    rounds = {
        name: (value * drift * (1 + 0.004 * rng.standard_normal(40))).tolist()
        for name, value in named.items()
    }
    return record("time", network, str(threads), rounds_ms=rounds, files={}, rounds=40, steady=True)


def known(*records: dict) -> dict:
    return {driver.key_of(entry): entry for entry in records}


RESNET = timed("resnet18", 1, ours=5.0, tp=6.0, tp_8=4.0, onnxsim=7.0)


def value(name: str) -> float:
    found = ratio(RESNET, name)
    assert found is not None
    return found.value


def test_ratios_follow_from_the_rounds():
    found = ratio(RESNET, "ours")
    assert found is not None
    assert found.value == pytest.approx(0.5, rel=0.01)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.02  # drift that all share cancels
    assert ratio(RESNET, "tp-16") is None
    assert 0 < floor(RESNET) < 0.02


def test_the_best_rival_is_the_fastest_one_that_is_not_ours():
    found = best_rival(RESNET, EVERY)
    assert found is not None
    assert found[0].name == "tp-8"


@pytest.mark.parametrize(("rival", "verdict"), [(6.0, "faster"), (5.0, "alike"), (4.0, "slower")])
def test_ours_is_judged_beyond_noise(rival: float, verdict: str):
    entry = timed("resnet18", 1, ours=5.0, tp=rival)
    (tp,) = (variant for variant in EVERY if variant.name == "tp")
    compared = against(entry, tp)
    assert compared is not None
    assert compared[0] == verdict


def test_the_fastest_rival_is_met_at_its_own_macs_where_that_was_made():
    entry = timed("resnet18", 1, ours=5.3, ours_tp_16=5.0, tp_16=5.0, tp=7.0)
    row = next(line for line in render(known(entry), EVERY).splitlines() if "| 12." in line)
    assert "alike (Torch-Pruning, round_to 16)" in row
    del entry["rounds_ms"]["ours-tp-16"]
    row = next(line for line in render(known(entry), EVERY).splitlines() if "| 12." in line)
    assert "slower (Torch-Pruning, round_to 16)" in row


def test_a_budget_is_half_or_what_a_rival_has_left(tmp_path):
    bench = driver.Bench.__new__(driver.Bench)
    bench.records = known(record("prune", "resnet18", "tp-16", macs_left=0.49478))
    budgets = {variant.name: bench.budget(NETWORKS[0], variant) for variant in EVERY}
    assert budgets["ours"] == budgets["tp-8"] == 0.5
    assert budgets["ours-tp-16"] == 0.4947
    assert bench.budget(NETWORKS[1], next(v for v in EVERY if v.like)) is None


def test_the_page_says_what_was_measured_what_not_and_what_failed():
    records = known(
        RESNET,
        record("prune", "resnet18", "ours", macs_left=0.497),
        record("prune", "resnet18", "tp-8", macs_left=0.484),
        record("prune", "resnet18", "tp-16", outcome="error", error="no | setting"),
        record("cost", "resnet18", "ours", seconds=6.0, peak_mb=600),
        record("cost", "resnet18", "tp", seconds=12.0, peak_mb=900),
    )
    text = render(records, EVERY)
    row = next(line for line in text.splitlines() if line.startswith("| resnet18 | 12."))
    assert f"**{value('ours'):.3f}**" in row
    assert f"{value('tp-8'):.3f} (0.484)" in row
    assert "(0.497)" in row
    assert "slower (Torch-Pruning, round_to 8)" in row
    assert "| error |" in row
    assert "| resnet50 | not measured |" in text
    assert (
        "| resnet18 | 6.0 s, 600 MB | not measured | 12.0 s, 900 MB | not measured | 0.50 |" in text
    )
    assert "- prune, resnet18, tp-16: error: no / setting" in text
    assert f"| resnet18 | 1 | 0.55 | {value('ours'):.3f} | met |" in text
    assert "| mobilenet_v2 | 2 | 0.70 | not measured | |" in text
    assert "Preliminary" not in text
    assert "Preliminary" in render(records, EVERY, preliminary=True)


def test_a_promise_that_is_not_kept_is_said_so():
    text = render(known(timed("resnet18", 1, ours=6.0, tp=7.0)), EVERY)
    (line,) = (line for line in text.splitlines() if line.startswith("| resnet18 | 1 | 0.55 |"))
    assert line.endswith("| **not met** |")


def test_times_that_had_not_settled_are_marked():
    assert "unsteady |" not in render(known(RESNET), EVERY)
    assert "unsteady |" in render(known({**RESNET, "steady": False}), EVERY)


def test_a_page_without_records_is_still_one():
    assert "not measured" in render({}, EVERY)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A bench whose code snapshot and child processes are stand-ins."""
    monkeypatch.setattr(driver, "snapshot", lambda folder, worktree: (folder, "rev"))
    names = ("code", "torch", "torch-pruning", "onnxsim")
    monkeypatch.setattr(driver, "versions", lambda code, rev: dict.fromkeys(names, "1"))
    tasks = []

    class Standin:
        def __init__(self, *_: object) -> None:
            pass

        def run(self, task: dict, scratch: Path, name: str) -> dict:
            tasks.append(name)
            if "file" in task:
                Path(task["file"]).write_bytes(b"made")
            return {"outcome": "ok", "macs_left": 0.5, "seconds": 1.0}

    monkeypatch.setattr(driver, "Child", Standin)

    def make(**options: bool) -> tuple[driver.Bench, list[str]]:
        tasks.clear()
        return driver.Bench(tmp_path, 10.0, **options), tasks

    return make


NET = Network("net", "plain", ((3, 8, 8),))
TP = next(variant for variant in EVERY if variant.name == "tp")


def test_what_has_a_file_or_a_record_is_not_done_again(bench):
    first, tasks = bench()
    for _ in range(2):
        assert first.export(NET)
        first.prune(NET, TP)
        first.time(NET, [TP], 1, 40)
    assert tasks == ["export-net-dense", "prune-net-tp", "time-net-1"]
    second, tasks = bench()
    second.prune(NET, TP)
    second.time(NET, [TP], 1, 40)
    assert tasks == []


def test_a_lost_file_another_version_or_more_rounds_make_it_due(bench):
    first, tasks = bench()
    first.export(NET)
    first.prune(NET, TP)
    first.time(NET, [TP], 1, 40)
    first.pruned(NET, TP).unlink()
    first.prune(NET, TP)
    first.versions["torch-pruning"] = "2"
    first.prune(NET, TP)
    first.time(NET, [TP], 1, 40)
    first.time(NET, [TP], 1, 50)
    assert tasks[3:] == ["prune-net-tp", "prune-net-tp", "time-net-1", "time-net-1"]


def test_fresh_times_again_and_keeps_the_files(bench):
    first, _ = bench()
    first.export(NET)
    first.prune(NET, TP)
    first.time(NET, [TP], 1, 40)
    second, tasks = bench(fresh=True)
    second.prune(NET, TP)
    second.time(NET, [TP], 1, 40)
    assert tasks == ["time-net-1"]


def test_what_failed_is_tried_again_only_when_asked(bench):
    first, _ = bench()
    first.export(NET)
    name = first.pruned(NET, TP).name
    append(first.folder / "records.jsonl", record("prune", "net", "tp", outcome="error", file=name))
    second, tasks = bench()
    second.prune(NET, TP)
    assert tasks == []
    third, tasks = bench(again=True)
    third.prune(NET, TP)
    assert tasks == ["prune-net-tp"]


def test_ours_is_costed_again_after_a_change_of_code_and_a_rival_is_not(bench):
    first, _ = bench()
    first.keep("cost", "net", "ours", {"outcome": "ok", "seconds": 1.0})
    first.keep("cost", "net", "tp", {"outcome": "ok", "seconds": 1.0})
    assert not cost._is_due(first, "net", "ours")
    first.versions = {**first.versions, "code": "2"}
    assert cost._is_due(first, "net", "ours")
    assert not cost._is_due(first, "net", "tp")


def test_grown_networks_have_the_nodes_and_weights_that_they_say(tmp_path):
    grown = cost.Grown("x", depth=2, width=8, kernel=3)
    path = tmp_path / "x.onnx"
    write(grown.depth, grown.width, grown.kernel, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) == grown.nodes
    convs = [w for w in model.graph.initializer if list(w.dims[2:]) == [3, 3]]
    assert sum(np.prod(w.dims) for w in convs) == grown.params


def test_external_weights_change_nothing_but_the_place(tmp_path):
    inside, outside = tmp_path / "a.onnx", tmp_path / "b.onnx"
    write(2, 16, 3, inside)
    write(2, 16, 3, outside, external=True)
    a, b = onnx.load(inside), onnx.load(outside)
    assert outside.stat().st_size < inside.stat().st_size / 2
    for first, second in zip(a.graph.initializer, b.graph.initializer, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(first), onnx.numpy_helper.to_array(second))
    assert count(inside) == count(outside)


def test_timing_runs_every_file_in_every_round_and_the_dense_one_twice(tmp_path):
    for name, depth in (("a", 2), ("b", 1)):
        write(depth, 8, 1, tmp_path / f"{name}.onnx")
    files = {DENSE: str(tmp_path / "a.onnx"), "ours": str(tmp_path / "b.onnx")}
    found = time_files(files, threads=1, rounds=4)
    assert {name: len(rounds) for name, rounds in found["rounds_ms"].items()} == {
        DENSE: 4,
        "ours": 4,
        AGAIN: 4,
    }


def test_a_file_whose_outputs_differ_is_not_timed(tmp_path):
    write(1, 8, 1, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    last = next(w for w in model.graph.initializer if list(w.dims) == [8, 10])
    fewer = onnx.numpy_helper.to_array(last)[:, :9]
    last.CopyFrom(onnx.numpy_helper.from_array(fewer, last.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    onnx.save(model, tmp_path / "b.onnx")
    files = {DENSE: str(tmp_path / "a.onnx"), "wrong": str(tmp_path / "b.onnx")}
    with pytest.raises(ValueError, match="wrong: outputs are"):
        time_files(files, threads=1, rounds=3)
