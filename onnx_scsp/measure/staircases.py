"""Measures the machine table: probes of every kind and width, timed in turn.

A probe's time is the lowest tenth over rounds: what disturbs a run makes it longer, never shorter.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnx_scsp.graph.session import CPU, InferenceSession, open_session, run_session
from onnx_scsp.measure.interleave import interleave
from onnx_scsp.measure.machine import machine_record
from onnx_scsp.measure.probes import input_shape, probe
from onnx_scsp.timing.table import KINDS, REFERENCE, MachineTable, Staircase, rounded
from onnx_scsp.types import AnyArray, FloatArray

_EVERY = (*range(1, 65), *range(68, 129, 4), *range(144, 257, 16))
_GROUPED = (*range(1, 33), *range(36, 65, 4))
ROUNDS = 60
_WARM_UP = 3
_REFERENCE = 64

Timer = Callable[[Sequence[Callable[[], object]]], FloatArray]
"""Functions -> seconds of each."""
Progress = Callable[[str, int, int], None]


def measured_widths(kind: str) -> tuple[int, ...]:
    """Widths that a table holds."""
    return _GROUPED if kind == "grouped" else _EVERY


def lowest_tenths(runs: Sequence[Callable[[], object]]) -> FloatArray:
    """Times functions in turn: seconds of each, float64 (n,)."""
    timed = interleave(runs, ROUNDS, warm_up=_WARM_UP)
    return np.asarray(np.quantile(timed.seconds, 0.1, axis=0))


def measure_table(
    *,
    threads: int = 1,
    provider: str = CPU,
    timer: Timer = lowest_tenths,
    progress: Progress = lambda _what, _done, _total: None,
) -> MachineTable:
    """Times this machine.

    Args:
        threads: Intra-op threads.
        provider: Execution provider, such as `cpu`.
        timer: What times functions in turn.
        progress: Called with (what, done, total).

    Returns:
        The table.

    Raises:
        ConfigError: The provider is not there.
    """
    kinds: dict[str, Staircase] = {}
    for done, kind in enumerate(KINDS):
        progress("timing small networks", done, len(KINDS))
        kinds[kind] = _measure(kind, threads, provider, timer)
    progress("timing small networks", len(KINDS), len(KINDS))
    record = machine_record()
    return MachineTable(kinds, record["processor"], record["onnxruntime"], threads, provider)


def _measure(kind: str, threads: int, provider: str, timer: Timer) -> Staircase:
    widths = measured_widths(kind)
    x = np.random.default_rng(0).standard_normal(input_shape(kind)).astype(np.float32)
    feeds = {"x": x}
    sessions = [
        open_session(probe(kind, width), threads=threads, provider=provider)
        for width in (0, *widths)
    ]
    base, *seconds = timer([_runner(session, feeds) for session in sessions])
    del sessions
    gc.collect()  # their threads end with them
    ms = tuple(rounded(1e3 * float(value)) for value in seconds)
    return Staircase(widths, ms, rounded(1e3 * float(base)), REFERENCE.get(kind, _REFERENCE))


def _runner(session: InferenceSession, feeds: Mapping[str, AnyArray]) -> Callable[[], object]:
    return lambda: run_session(session, feeds)
