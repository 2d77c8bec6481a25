"""Records of timings: structure, counts, refusals. No test here looks at how fast anything is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.small import DIGITS, conv_net, write
from onnx import helper

import onnx_scsp
from onnx_scsp.errors import ConfigError, ModelError
from onnx_scsp.graph import session as runtime
from onnx_scsp.graph.load import from_proto
from onnx_scsp.measure import BenchReport, Sweep, interleave, latency, machine_record

A, B = DIGITS / "digits_bn.onnx", DIGITS / "digits_folded.onnx"


@pytest.fixture(scope="module")
def report() -> BenchReport:
    return onnx_scsp.benchmark(A, B, rounds=7, warm_up=1, operators=True, memory=True)


def test_every_round_is_counted(report: BenchReport) -> None:
    assert report.a.runs == report.b.runs == 7


def test_times_are_positive_and_quartiles_in_order(report: BenchReport) -> None:
    for timing in (report.a, report.b):
        assert 0.0 < timing.q1_ms <= timing.median_ms <= timing.q3_ms
        assert timing.iqr_ms == pytest.approx(timing.q3_ms - timing.q1_ms)


def test_ratio_and_noise_floor_are_finite(report: BenchReport) -> None:
    assert 0.0 < report.ratio < math.inf
    assert 0.0 <= report.noise_floor < math.inf


def test_the_record_says_what_was_run(report: BenchReport) -> None:
    assert report.threads == 1
    assert report.input_shapes == {"image": (1, 1, 8, 8)}
    assert report.machine == machine_record()
    assert (report.provider, report.warm_up, report.steady) == ("cpu", 1, None)


def test_the_ratio_lies_in_its_interval(report: BenchReport) -> None:
    low, high = report.interval
    assert 0.0 < low <= report.ratio <= high


def test_profile_and_memory_are_there_when_asked_for_and_not_else(report: BenchReport) -> None:
    assert report.profile is not None
    assert report.memory is not None
    assert min(report.memory.a_bytes, report.memory.b_bytes) > 0
    plain = onnx_scsp.benchmark(A, B, rounds=3, warm_up=0)
    assert plain.profile is plain.memory is None


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_fills_an_open_axis(batch: int) -> None:
    found = onnx_scsp.benchmark(A, B, rounds=3, warm_up=0, batch=batch)
    assert found.input_shapes == {"image": (batch, 1, 8, 8)}


def test_a_given_shape_wins_over_the_batch() -> None:
    shapes = {"image": (5, 1, 8, 8)}
    found = onnx_scsp.benchmark(A, B, rounds=3, warm_up=0, input_shapes=shapes)
    assert found.input_shapes == shapes


def test_a_fixed_batch_is_left_alone(tmp_path: Path) -> None:
    proto = conv_net()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    path = write(proto, tmp_path / "net.onnx")
    found = onnx_scsp.benchmark(path, path, rounds=3, warm_up=0, batch=7)
    assert found.input_shapes == {"image": (2, 3, 8, 8)}


def test_models_in_memory_can_be_timed() -> None:
    model = from_proto(conv_net())
    assert onnx_scsp.benchmark(model, model, rounds=3, warm_up=0).a.runs == 3


class Clock:
    """A clock that only the sessions advance: a, b and the second a take 2, 3 and 2.5 seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.order, self.feeds = 0.0, [], []
        self._sessions: list[object] = []
        monkeypatch.setattr(interleave.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(latency, "open_session", self.open)
        monkeypatch.setattr(latency, "run_session", self.run)

    def open(self, source: object, **_: object) -> int:
        self._sessions.append(source)
        return len(self._sessions) - 1

    def run(self, session: int, feeds: dict[str, np.ndarray]) -> None:
        self.order.append(session)
        self.feeds.append(feeds)
        self.now += (2.0, 3.0, 2.5)[session]


def test_ratio_and_noise_floor_follow_from_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    found = onnx_scsp.benchmark(A, B, rounds=5, warm_up=0)
    assert found.ratio == pytest.approx(1.5)
    assert found.interval == pytest.approx((1.5, 1.5))
    assert found.noise_floor == pytest.approx(0.25)
    assert (found.a.median_ms, found.b.median_ms) == pytest.approx((2000.0, 3000.0))


@pytest.mark.parametrize(
    ("interval", "noise_floor", "verdict"),
    [
        ((0.80, 0.90), 0.05, "faster"),
        ((0.80, 0.96), 0.05, "alike"),
        ((0.90, 1.20), 0.05, "alike"),
        ((1.04, 1.20), 0.05, "alike"),
        ((1.06, 1.20), 0.05, "slower"),
    ],
)
def test_the_verdict_needs_an_interval_beyond_the_noise(
    report: BenchReport, interval: tuple[float, float], noise_floor: float, verdict: str
) -> None:
    assert replace(report, interval=interval, noise_floor=noise_floor).verdict == verdict


def test_every_round_runs_both_models_and_the_first_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    onnx_scsp.benchmark(A, B, rounds=6, warm_up=0)
    rounds = np.array(clock.order).reshape(6, 3)
    assert np.array_equal(np.sort(rounds, axis=1), np.tile([0, 1, 2], (6, 1)))


def test_no_session_always_runs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    onnx_scsp.benchmark(A, B, rounds=6, warm_up=0)
    assert np.bincount(clock.order[::3]).tolist() == [2, 2, 2]


def test_warm_up_rounds_run_and_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = onnx_scsp.benchmark(A, B, rounds=4, warm_up=3)
    assert len(clock.order) == 3 * 7
    assert found.a.runs == 4


def test_all_sessions_see_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    onnx_scsp.benchmark(A, B, rounds=3, warm_up=0)
    assert all(feeds is clock.feeds[0] for feeds in clock.feeds)


@pytest.mark.parametrize(
    "options",
    [{"rounds": 2}, {"rounds": 0}, {"warm_up": -1}, {"threads": 0}, {"batch": 0}],
    ids=str,
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="bench needs"):
        onnx_scsp.benchmark(A, B, **options)


def _renamed() -> onnx.ModelProto:
    proto = conv_net()
    proto.graph.input[0].name = "pixels"
    proto.graph.node[0].input[0] = "pixels"
    return proto


@pytest.mark.parametrize("other", [_renamed(), conv_net(dtype="float16")], ids=["name", "type"])
def test_models_with_different_inputs_are_refused(other: onnx.ModelProto) -> None:
    with pytest.raises(ConfigError, match="different inputs"):
        onnx_scsp.benchmark(from_proto(conv_net()), from_proto(other), rounds=3)


def test_models_whose_input_sizes_differ_are_refused() -> None:
    first, second = from_proto(conv_net()), onnx_scsp.load(A)
    renamed = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, 9, 9])
    proto = conv_net()
    proto.graph.input[0].CopyFrom(renamed)
    for other in (second, from_proto(proto)):
        with pytest.raises((ConfigError, ModelError)):
            onnx_scsp.benchmark(first, other, rounds=3)


def test_a_sweep_measures_every_combination() -> None:
    sweep = Sweep(batches=(1, 2), threads=(1, 2), input_shapes=({}, {"image": (3, 1, 8, 8)}))
    told: list[tuple[str, int, int]] = []
    reports = onnx_scsp.bench_sweep(
        A, B, sweep, rounds=3, warm_up=0, progress=lambda *step: told.append(step)
    )
    found = [(report.input_shapes["image"][0], report.threads) for report in reports]
    assert found == [(1, 1), (1, 2), (2, 1), (2, 2), *[(3, 1), (3, 2)] * 2]
    assert told == [("timing", done, 8) for done in range(8)]


def test_a_sweep_over_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to measure"):
        onnx_scsp.bench_sweep(A, B, Sweep(batches=()))


def test_providers_are_named_and_the_cpu_is_always_there() -> None:
    assert "cpu" in runtime.providers()
    assert "azure" not in runtime.providers()


def test_a_provider_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"provider 'abacus' is not .* it has .*cpu"):
        onnx_scsp.benchmark(A, B, rounds=3, provider="abacus")


def test_a_provider_that_does_not_start_is_no_silent_fall_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = ["DreamExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(runtime.ort, "get_available_providers", lambda: listed)

    class OnTheCpu:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(runtime, "InferenceSession", OnTheCpu)
    with pytest.raises(ConfigError, match="'dream' is installed but cannot be started"):
        runtime.open_session(b"", provider="dream")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        onnx_scsp.benchmark(A, tmp_path / "absent.onnx", rounds=3)


def test_an_unknown_input_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="names 'pixels'"):
        onnx_scsp.benchmark(A, B, rounds=3, input_shapes={"pixels": (1, 1, 8, 8)})


def test_a_model_that_the_runtime_refuses_is_an_error_in_one_sentence() -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load") as caught:
        runtime.open_session(b"no model")
    assert "\n" not in str(caught.value)


def test_the_machine_record_is_text_and_complete() -> None:
    record = machine_record()
    assert set(record) == {"processor", "cores", "system", "python", "numpy", "onnxruntime"}
    assert all(isinstance(value, str) and value for value in record.values())
    assert int(record["cores"]) >= 1
