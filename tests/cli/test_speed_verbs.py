"""`profile`, `prune --latency`, the gate, `--align auto` on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from timing.staircases import linear, steps_of_16, table

from onnx_scsp.measure.compare import Comparison
from onnx_scsp.measure.store import table_path
from onnx_scsp.timing import LayerTimes, shipped_table, table_to_json


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every candidate is as much faster as its MACs are fewer."""
    from speed.stopwatch import profile, stopwatch

    seen: list[float] = []

    def counted(a: object, b: object) -> Comparison:
        found = stopwatch()(a, b)
        seen.append(found.ratio)
        return found

    def times(model: object, **_: object) -> LayerTimes:
        return profile()(model)

    monkeypatch.setattr("onnx_scsp.speed.latency.comparer", lambda **_: counted)
    monkeypatch.setattr("onnx_scsp.speed.latency.layer_times", times)
    return seen


def test_profile_show_measures_nothing(run, monkeypatch) -> None:
    def fail(**_: object) -> None:
        raise AssertionError("nothing is measured")

    monkeypatch.setattr("onnx_scsp.measure.staircases.measure_table", fail)
    result = run("profile", "--show")
    assert result.exit_code == 0
    assert "origin: shipped" in " ".join(result.output.split())
    assert "depthwise" in result.output


def test_profile_keeps_the_table_and_align_auto_goes_by_it(
    run, run_json, model, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("ONNX_SCSP_CACHE", str(tmp_path / "cache"))
    measured = replace(table(steps_of_16), threads=2)
    monkeypatch.setattr("onnx_scsp.measure.staircases.measure_table", lambda **_: measured)
    result = run("profile", "--threads", 2, "-o", tmp_path / "t.csv")
    assert result.exit_code == 0, result.output
    assert table_path(2).is_file()
    assert (tmp_path / "t.csv").read_text().startswith("kind,width,ms,base_ms,channels,good\n")
    assert run("profile", "--threads", 2, "--show", "--json").output == table_to_json(measured)
    plan_out = tmp_path / "plan.json"
    run_json("prune", model, "-o", tmp_path / "o.onnx", "--macs", 0.6, "--plan-out", plan_out)
    assert json.loads(plan_out.read_text())["timing"]["table"] == measured.sha256


def test_a_busy_machine_is_told(run, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ONNX_SCSP_CACHE", str(tmp_path / "cache"))
    busy = replace(table(linear), scatter=0.5)
    monkeypatch.setattr("onnx_scsp.measure.staircases.measure_table", lambda **_: busy)
    assert "The machine was busy" in run("profile").output


def test_another_machines_table_is_used_where_it_is_named(run, model, tmp_path) -> None:
    other = table(steps_of_16)
    (tmp_path / "t.json").write_text(table_to_json(other), encoding="utf-8")
    result = run(
        "prune", model, "-o", tmp_path / "o.onnx", "--macs", 0.6,
        "--machine-table", tmp_path / "t.json", "--plan-out", tmp_path / "p.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "p.json").read_text())["timing"]["table"] == other.sha256


def test_two_runs_without_a_table_write_the_same_bytes(run, model, tmp_path) -> None:
    for name in ("a", "b"):
        arguments = ("--macs", 0.5, "--plan-out", tmp_path / f"{name}.json")
        result = run("prune", model, "-o", tmp_path / f"{name}.onnx", *arguments)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    plan = json.loads((tmp_path / "a.json").read_text())
    assert plan["timing"]["table"] == shipped_table().sha256


def test_a_latency_is_met_and_reported(run_json, model, tmp_path, timed) -> None:
    data = run_json("prune", model, "-o", tmp_path / "o.onnx", "--latency", 0.6)
    assert data["latency"]["measured"] == pytest.approx(0.6, rel=0.05)
    assert data["target"] == {"latency": 0.6}
    assert data["latency"]["measured"] == pytest.approx(timed[-1])


def test_a_latency_is_shown_with_its_trials(run, model, tmp_path, timed) -> None:
    result = run("prune", model, "-o", tmp_path / "o.onnx", "--latency", 0.6)
    assert result.exit_code == 0, result.output
    assert "Plans that were measured" in result.output
    assert "(measured), goal 0.600" in " ".join(result.output.split())


def test_for_another_device_the_figure_is_called_an_estimate(run, model, tmp_path) -> None:
    rows = ("dense,32,32,3,1,16,1.0", "pointwise,32,32,1,1,16,0.2", "depthwise,32,32,3,1,16,0.3",
            "grouped,32,32,3,1,16,0.5", "matmul,64,10,1,1,1,0.01")  # fmt: skip
    text = "\n".join(("kind,in,out,kernel,stride,spatial,ms", *rows))
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    result = run("prune", model, "-o", tmp_path / "o.onnx", "--latency", 0.6,
                 "--target-table", tmp_path / "t.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "estimated by the device table, not measured" in " ".join(result.output.split())


def slower(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Comparison(1.5, 1.4, 1.6, 0.02, 1.0, 1.5)
    monkeypatch.setattr("onnx_scsp.speed.gated.comparer", lambda **_: lambda _a, _b: found)


@pytest.mark.parametrize("options", [("--macs", 0.5), ("--macs", 0.5, "--gate", "check")])
def test_a_slower_result_fails_and_is_not_written(
    run, model, tmp_path, monkeypatch, options
) -> None:
    slower(monkeypatch)
    result = run("prune", model, "-o", tmp_path / "o.onnx", *options)
    assert result.exit_code == 1
    assert "never slower: latency 1.500 of the original's" in result.stderr
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize("options", [("--no-gate",), ("--gate", "off"), ("--no-verify",)])
def test_without_a_gate_nothing_is_timed(run, model, tmp_path, monkeypatch, options) -> None:
    slower(monkeypatch)
    result = run("prune", model, "-o", tmp_path / "o.onnx", "--macs", 0.5, *options)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--latency", 1.5), "--latency 1.5 is outside (0, 1)"),
        (("--latency-ms", -1), "--latency-ms -1 is no positive number"),
        (("--latency", 0.5, "--latency-ms", 1), "give exactly one latency"),
        (("--latency", 0.5, "--macs", 0.5), "leave out --macs"),
        (("--latency", 0.5, "--max-divergence", 0.1), "a latency or a tolerance, not both"),
        (("--macs", 0.5, "--target-table", "t.csv"), "--target-table goes with --latency"),
        (("--latency", 0.5, "--target-table", "none.csv"), "none.csv cannot be read"),
        (("--macs", 0.5, "--machine-table", "none.json"), "none.json cannot be read"),
        (("--macs", 0.5, "--gate", "ajar"), "--gate 'ajar' is unknown; use one of check"),
        (("--macs", 0.5, "--gate", "widen", "--no-gate"), "contradict each other"),
        (("--macs", 0.5, "--align", "best"), "--align 'best' is neither auto nor a whole number"),
        (("--macs", 0.5, "--align", "0"), "--align 0 is not positive"),
        (("--latency", 0.5, "--provider", "abacus"), "provider 'abacus' is not in the installed"),
    ],
)
def test_bad_options_are_told_in_one_sentence(run, model, tmp_path, options, told) -> None:
    result = run("prune", model, "-o", tmp_path / "o.onnx", *options)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_written_as_json_or_csv_alone(run, tmp_path: Path) -> None:
    result = run("profile", "-o", tmp_path / "t.txt")
    assert result.exit_code == 2
    assert "is neither .json nor .csv" in result.stderr


def test_apply_refuses_a_slow_plan_and_widen_mends_it(run, model, tmp_path, monkeypatch) -> None:
    from speed.stopwatch import odd_is_slow, profile, stopwatch

    def slow_if_odd(**_: object) -> object:
        return stopwatch(odd_is_slow)

    monkeypatch.setattr("onnx_scsp.speed.gated.comparer", slow_if_odd)
    monkeypatch.setattr("onnx_scsp.speed.gated.layer_times", lambda m, **_: profile(odd_is_slow)(m))
    options = ("--ratio", 0.97, "--align", 1, "--no-synthetic")
    assert run("plan", model, "-o", tmp_path / "p.json", *options).exit_code == 0
    refused = run("apply", model, tmp_path / "p.json", "-o", tmp_path / "o.onnx")
    assert refused.exit_code == 1
    assert "never slower" in refused.stderr
    assert not (tmp_path / "o.onnx").exists()
    mended = run("apply", model, tmp_path / "p.json", "-o", tmp_path / "o.onnx", "--gate", "widen",
                 "--plan-out", tmp_path / "wider.json")  # fmt: skip
    assert mended.exit_code == 0, mended.output
    assert json.loads((tmp_path / "wider.json").read_text())["timing"]["gate"]["changes"]


def test_a_plan_can_go_by_another_machine_too(run, model, tmp_path) -> None:
    other = table(steps_of_16)
    (tmp_path / "t.json").write_text(table_to_json(other), encoding="utf-8")
    result = run("plan", model, "-o", tmp_path / "p.json", "--macs", 0.6,
                 "--machine-table", tmp_path / "t.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "p.json").read_text())["timing"]["table"] == other.sha256


def test_widening_and_a_latency_do_not_go_together(run, model, tmp_path) -> None:
    result = run("prune", model, "-o", tmp_path / "o.onnx", "--latency", 0.6, "--gate", "widen")
    assert result.exit_code == 2
    assert "--gate widen goes with --macs" in result.stderr
