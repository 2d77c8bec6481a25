"""Measures the machine table: probes of every kind and width, timed in turn.

A probe's time is the lowest tenth over rounds: what disturbs a run makes it longer, never shorter.
With one thread, other processes do not count at all (see `clock`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnx_scsp.graph.session import CPU, InferenceSession, open_session, run_session
from onnx_scsp.measure.clock import clock_for
from onnx_scsp.measure.interleave import interleave
from onnx_scsp.measure.machine import machine_record
from onnx_scsp.measure.probes import input_shape, probe
from onnx_scsp.timing.table import KINDS, REFERENCE, MachineTable, Staircase, rounded
from onnx_scsp.types import AnyArray, FloatArray

_EVERY = (*range(1, 65), *range(68, 129, 4), *range(144, 257, 16))
_GROUPED = (*range(1, 33), *range(36, 65, 4))
ROUNDS = 150
_WARM_UP = 3
_REFERENCE = 64

Timer = Callable[[Sequence[Callable[[], object]]], tuple[FloatArray, FloatArray]]
"""Functions -> what each takes undisturbed, and usually, in seconds."""
Progress = Callable[[str, int, int], None]


def measured_widths(kind: str) -> tuple[int, ...]:
    """Widths that a table holds."""
    return _GROUPED if kind == "grouped" else _EVERY


def lowest_tenths(clock: Callable[[], float]) -> Timer:
    """Times functions in turn by a clock: lowest tenths and medians, float64 (n,) each."""

    def timer(runs: Sequence[Callable[[], object]]) -> tuple[FloatArray, FloatArray]:
        seconds = interleave(runs, ROUNDS, warm_up=_WARM_UP, clock=clock).seconds
        return np.quantile(seconds, 0.1, axis=0), np.median(seconds, axis=0)

    return timer


def measure_table(
    *,
    threads: int = 1,
    provider: str = CPU,
    timer: Timer | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> MachineTable:
    """Times this machine.

    Args:
        threads: Intra-op threads.
        provider: Execution provider, such as `cpu`.
        timer: What times functions in turn; `lowest_tenths` where None.
        progress: Called with (what, done, total).

    Returns:
        The table.

    Raises:
        ConfigError: The provider is not there.
    """
    timer = timer or lowest_tenths(clock_for(threads, provider))
    kinds: dict[str, Staircase] = {}
    scatter: list[float] = []
    for done, kind in enumerate(KINDS):
        progress("timing small networks", done, len(KINDS))
        kinds[kind], above = _measure(kind, threads, provider, timer)
        scatter.append(above)
    progress("timing small networks", len(KINDS), len(KINDS))
    record = machine_record()
    return MachineTable(
        kinds=kinds,
        processor=record["processor"],
        onnxruntime=record["onnxruntime"],
        threads=threads,
        provider=provider,
        scatter=round(max(scatter), 3),
    )


def _measure(kind: str, threads: int, provider: str, timer: Timer) -> tuple[Staircase, float]:
    """The staircase, and how far runs usually are above what they take undisturbed."""
    widths = measured_widths(kind)
    x = np.random.default_rng(0).standard_normal(input_shape(kind)).astype(np.float32)
    feeds = {"x": x}
    sessions = [
        open_session(probe(kind, width), threads=threads, provider=provider)
        for width in (0, *widths)
    ]
    undisturbed, usual = timer([_runner(session, feeds) for session in sessions])
    base, *seconds = undisturbed
    del sessions
    gc.collect()  # their threads end with them
    ms = tuple(rounded(1e3 * float(value)) for value in seconds)
    stairs = Staircase(widths, ms, rounded(1e3 * float(base)), REFERENCE.get(kind, _REFERENCE))
    return stairs, float(np.median(usual / undisturbed)) - 1.0


def _runner(session: InferenceSession, feeds: Mapping[str, AnyArray]) -> Callable[[], object]:
    return lambda: run_session(session, feeds)
