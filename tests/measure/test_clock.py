"""Which clock tells what a run takes."""

from __future__ import annotations

import time

from onnx_scsp.measure.clock import clock_for


def test_one_thread_on_the_cpu_is_timed_by_its_own_time() -> None:
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    assert clock_for(1, "cpu") is (time.thread_time if fine else time.perf_counter)


def test_several_threads_and_devices_are_timed_on_the_wall() -> None:
    assert clock_for(2, "cpu") is time.perf_counter
    assert clock_for(1, "cuda") is time.perf_counter


def test_a_coarse_clock_is_not_used(monkeypatch) -> None:
    info = time.get_clock_info("thread_time")
    info.resolution = 0.0156
    monkeypatch.setattr(time, "get_clock_info", lambda _name: info)
    assert clock_for(1, "cpu") is time.perf_counter
