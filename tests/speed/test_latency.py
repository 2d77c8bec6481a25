"""`prune_to_latency` from file to file, with a timer that counts MACs."""

from __future__ import annotations

from pathlib import Path

import pytest
from graph.small import DIGITS
from timing.staircases import linear, table

import onnx_scsp
from onnx_scsp.errors import BudgetError, ConfigError, VerifyError
from onnx_scsp.measure.compare import Comparison
from onnx_scsp.plan import read_plan
from onnx_scsp.speed import Latency, LatencyResult, Meters, prune_to_latency
from onnx_scsp.timing import device_table
from speed.stopwatch import even, layer_ms, odd_is_slow, profile, stopwatch

MODEL = DIGITS / "digits_bn.onnx"
CONFIG = onnx_scsp.PruneConfig(synthetic=False)


def pruned(tmp_path: Path, latency: Latency, slowness=even, rest: float = 0.0) -> LatencyResult:
    times = profile(slowness, rest)(onnx_scsp.load(MODEL))
    return prune_to_latency(
        MODEL,
        tmp_path / "out.onnx",
        latency,
        CONFIG,
        plan_out=tmp_path / "plan.json",
        machine=table(linear),
        meters=Meters(times, stopwatch(slowness, rest)),
    )


def test_the_written_file_has_the_latency_that_was_asked_for(tmp_path: Path) -> None:
    found = pruned(tmp_path, Latency(fraction=0.6))
    ratio = sum(layer_ms(tmp_path / "out.onnx").values()) / sum(layer_ms(MODEL).values())
    assert found.latency == pytest.approx(ratio)
    assert ratio == pytest.approx(0.6, rel=0.05)


def test_what_cannot_be_cut_is_made_up_for_elsewhere(tmp_path: Path) -> None:
    rest = 0.5 * sum(layer_ms(MODEL).values())
    found = pruned(tmp_path, Latency(fraction=0.6), rest=rest)
    assert found.latency == pytest.approx(0.6, rel=0.05)
    assert found.result.after.macs / found.result.before.macs < 0.45


def test_milliseconds_are_met_too(tmp_path: Path) -> None:
    whole = sum(layer_ms(MODEL).values())
    found = pruned(tmp_path, Latency(ms=0.7 * whole))
    assert found.goal == pytest.approx(0.7)
    assert found.latency == pytest.approx(0.7, rel=0.05)


def test_an_unreachable_latency_is_refused_with_what_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"--latency 0\.3 cannot be reached"):
        pruned(tmp_path, Latency(fraction=0.3), rest=10 * sum(layer_ms(MODEL).values()))
    assert not (tmp_path / "out.onnx").exists()


def test_a_result_that_turns_out_slower_is_not_written(tmp_path: Path) -> None:
    times = profile()(onnx_scsp.load(MODEL))
    calls: list[int] = []

    def at_first_fast(_a: object, _b: object) -> Comparison:
        calls.append(1)
        ratio = 0.6 if len(calls) == 1 else 1.5
        return Comparison(ratio, ratio, ratio, 0.02, 1.0, ratio)

    with pytest.raises(VerifyError, match=r"never slower: latency 1\.500 of the original's"):
        prune_to_latency(MODEL, tmp_path / "out.onnx", Latency(fraction=0.6), CONFIG,
                         machine=table(linear), meters=Meters(times, at_first_fast))  # fmt: skip
    assert not (tmp_path / "out.onnx").exists()


def test_the_plan_says_what_was_measured_and_makes_the_same_file(tmp_path: Path) -> None:
    found = pruned(tmp_path, Latency(fraction=0.6), odd_is_slow)
    plan = read_plan(tmp_path / "plan.json")
    assert plan.timing["latency"]["asked"] == "--latency 0.6"
    assert plan.timing["latency"]["measured"] == pytest.approx(found.latency, abs=1e-3)
    assert len(plan.timing["latency"]["trials"]) == len(found.trials)
    onnx_scsp.prune(MODEL, tmp_path / "again.onnx", plan=plan)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()


def test_the_result_reports_the_latency_as_its_budget(tmp_path: Path) -> None:
    found = pruned(tmp_path, Latency(fraction=0.6))
    assert found.result.target == ("latency", 0.6)
    assert found.result.achieved == found.latency


DEVICE = """kind,in,out,kernel,stride,spatial,ms
dense,32,32,3,1,16,1.0
pointwise,32,32,1,1,16,0.2
depthwise,32,32,3,1,16,0.3
grouped,32,32,3,1,16,0.5
matmul,64,10,1,1,1,0.01
"""


def test_for_another_device_nothing_is_measured_and_the_figure_is_an_estimate(
    tmp_path: Path,
) -> None:
    def fail(_a: object, _b: object) -> Comparison:
        raise AssertionError("nothing is measured for another device")

    found = prune_to_latency(
        MODEL,
        tmp_path / "out.onnx",
        Latency(fraction=0.6),
        CONFIG,
        device=device_table(DEVICE, "board.csv"),
        plan_out=tmp_path / "plan.json",
        meters=Meters(compare=fail),
    )
    assert found.is_estimate
    assert found.trials == ()
    assert 0.5 < found.latency <= 0.6
    record = read_plan(tmp_path / "plan.json").timing["latency"]
    assert record["table"] == "board.csv"
    assert record["estimated"] == pytest.approx(found.latency)


def test_a_device_table_without_a_kind_is_refused(tmp_path: Path) -> None:
    only = device_table("".join(DEVICE.splitlines(keepends=True)[:2]), "board.csv")
    with pytest.raises(ConfigError, match=r"board\.csv has no row of kind"):
        prune_to_latency(MODEL, tmp_path / "out.onnx", Latency(fraction=0.6), CONFIG, device=only)
