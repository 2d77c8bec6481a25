"""`bench`: sweeps, outputs, and what it refuses. Nothing here looks at how fast anything is."""

from __future__ import annotations

import io
import json
import sys
from xml.etree import ElementTree

import pytest
from rich.console import Console

from onnx_scsp.cli.bench import shape_points
from onnx_scsp.errors import ConfigError, MissingExtraError
from onnx_scsp.measure import BenchReport
from onnx_scsp.measure.records import Memory, Profile, Share, Timing
from onnx_scsp.report.bench import bench_json, bench_tables
from onnx_scsp.report.plot import bench_plot

QUICK = ("--rounds", 3, "--warm-up", 0, "--timing-only")


def test_one_point_reports_both_models_and_the_machine(run_json, model):
    data = run_json("bench", model, model, "--rounds", 5, "--warm-up", 1)
    (point,) = data["points"]
    assert point["a"]["runs"] == point["b"]["runs"] == 5
    assert point["a"]["median_ms"] > 0
    assert point["noise_floor"] >= 0
    assert point["interval"][0] <= point["ratio"] <= point["interval"][1]
    assert point["memory"]["a_bytes"] > 0
    assert point["profile"]["operators"]
    assert {"processor", "cores", "onnxruntime"} <= set(data["machine"])


def test_a_sweep_over_batches_and_threads(run_json, model):
    data = run_json("bench", model, model, *QUICK, "--batch", "1,3", "--threads", "1,2")
    found = [(p["input_shapes"]["image"][0], p["threads"]) for p in data["points"]]
    assert found == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert all(p["profile"] is p["memory"] is None for p in data["points"])


def test_a_sweep_over_shapes_in_both_spellings(run_json, model):
    shapes = ("--input-shape", "image:2,1,8,8", "--input-shape", "image:5x1x8x8")
    data = run_json("bench", model, model, *QUICK, *shapes)
    assert [p["input_shapes"]["image"] for p in data["points"]] == [[2, 1, 8, 8], [5, 1, 8, 8]]


def test_files_are_written_and_the_json_file_is_what_is_printed(run_json, model, tmp_path):
    pytest.importorskip("matplotlib")
    found, plot = tmp_path / "bench.json", tmp_path / "bench.svg"
    data = run_json("bench", model, model, *QUICK, "--json-file", found, "--plot", plot)
    assert json.loads(found.read_text()) == data
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench.json", "bench.svg"]


REFUSED = {
    "no batch": (("--batch", "0"), "--batch '0' is no list of positive numbers"),
    "a word for a batch": (("--batch", "1,many"), "--batch '1,many' is no list"),
    "an empty entry": (("--threads", "1,"), "--threads '1,' is no list"),
    "a provider that is not there": (("--provider", "abacus"), "it has"),
    "two rounds": (("--rounds", "2"), "at least 3 rounds"),
    "a shape for no input": (("--input-shape", "pixels:1,1,8,8"), "names 'pixels'"),
    "a shape that the file fixes": (("--input-shape", "image:1,3,8,8"), "fixes it at 1"),
    "an output in no folder": (("--json-file", "nowhere/x.json"), "no existing folder"),
    "an output that is a folder": (("--plot", "folder"), "is a directory"),
    "an output that is the model": (("--json-file", "a.onnx"), "the input model itself"),
    "both outputs in one file": (("--json-file", "x", "--plot", "x"), "named twice"),
}


@pytest.mark.parametrize("options, words", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_one_sentence_and_changes_nothing(
    run, model, tmp_path, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").write_bytes(model.read_bytes())
    (tmp_path / "folder").mkdir()
    result = run("bench", "a.onnx", "a.onnx", *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "folder"]
    assert (tmp_path / "a.onnx").read_bytes() == model.read_bytes()


def test_without_the_drawing_library_nothing_is_measured_and_the_extra_is_named(
    run, model, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("onnx_scsp.measure.latency.benchmark", None)  # calling it would fail
    result = run("bench", model, model, "--plot", tmp_path / "x.svg")
    assert result.exit_code == 2
    assert "pip install 'onnx-scsp[plot]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_inputs_with_several_shapes_take_them_in_step():
    found = shape_points(["x:1,2", "y:3", "x:4,5"])
    assert found == ({"x": (1, 2), "y": (3,)}, {"x": (4, 5), "y": (3,)})
    assert shape_points(None) == ({},)


def test_inputs_with_different_numbers_of_shapes_are_refused():
    with pytest.raises(ConfigError, match="gives 2 shapes for 'x' and 3 for another"):
        shape_points(["x:1", "x:2", "y:1", "y:2", "y:3"])


def report(**changes: object) -> BenchReport:
    fields = {
        "a": Timing(2.0, 1.9, 2.2, 50),
        "b": Timing(1.0, 0.9, 1.3, 50),
        "ratio": 0.5,
        "interval": (0.45, 0.55),
        "confidence": 0.95,
        "noise_floor": 0.02,
        "machine": {"processor": "one"},
        "threads": 1,
        "input_shapes": {"image": (1, 3, 4, 4)},
        "provider": "cpu",
        "warm_up": 10,
        "steady": True,
        "seed": 0,
    }
    return BenchReport(**(fields | changes))


FULL = report(
    memory=Memory(4_000_000, 1_000_000, 60_000_000),
    profile=Profile(
        operators=(
            Share("Conv", "Conv", 1.5, 0.5, 3, 3),
            Share("ReorderInput", "ReorderInput", 0.0, 0.5, 0, 2),
        ),
        layers=(Share("stem[0]", "Conv", 1.0, 0.25, 1, 1),),
        runs=20,
    ),
)


def printed(*reports: BenchReport) -> str:
    stream = io.StringIO()
    console = Console(width=200, file=stream)
    for part in bench_tables(reports, "a.onnx", "b[1].onnx"):
        console.print(part)
    return stream.getvalue()


def test_tables_say_ratio_interval_noise_verdict_memory_and_operators():
    text = printed(FULL)
    for words in ("0.500", "0.450 to 0.550", "±0.020", "faster", "0.250", "66.7%", "stem[0]"):
        assert words in text
    assert "b[1].onnx" in text
    assert "not settled" not in text


def test_times_that_did_not_settle_are_said_to():
    assert "at 1 of 2 points the times had not settled" in printed(FULL, report(steady=False))


def test_json_says_what_points_share_once():
    data = bench_json([FULL, report(threads=2)], "a", "b")
    assert data["machine"] == {"processor": "one"}
    assert [point["threads"] for point in data["points"]] == [1, 2]
    assert "machine" not in data["points"][0]
    assert data["points"][0]["a"]["iqr_ms"] == pytest.approx(0.3)
    assert json.loads(json.dumps(data))["points"][0]["profile"]["runs"] == 20


def test_the_same_reports_give_the_same_drawing():
    pytest.importorskip("matplotlib")
    first = bench_plot([FULL, report(threads=2)], "$a$.onnx", "b.onnx")
    assert first == bench_plot([FULL, report(threads=2)], "$a$.onnx", "b.onnx")
    text = " ".join("".join(ElementTree.fromstring(first).itertext()).split())
    assert "image 1x3x4x4, 2 thr." in text
    assert "$a$.onnx" in text
    assert "ReorderInput" in text


def test_a_drawing_without_the_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"onnx-scsp\[plot\]"):
        bench_plot([FULL], "a", "b")
