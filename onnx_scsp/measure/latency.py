"""Interleaved latency: A, B and A' in every round, A' a second session of the first model.

ratio       = median(b) / median(a), with a bootstrap interval (`resample`)
noise floor = how far from 1 that interval reaches for a' / a
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import CPU, open_session, run_session
from onnx_scsp.measure.interleave import interleave
from onnx_scsp.measure.machine import machine_record
from onnx_scsp.measure.memory import peak_memory
from onnx_scsp.measure.profile import profile
from onnx_scsp.measure.records import BenchReport
from onnx_scsp.measure.resample import (
    CONFIDENCE,
    bootstrap_interval,
    noise_floor,
    ratio_of_medians,
    timing,
)
from onnx_scsp.measure.subject import make_subject

_FEWEST_ROUNDS = 3


def benchmark(
    a: Model | str | os.PathLike[str],
    b: Model | str | os.PathLike[str],
    *,
    rounds: int = 50,
    warm_up: int | None = None,
    threads: int = 1,
    batch: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    provider: str = CPU,
    operators: bool = False,
    memory: bool = False,
) -> BenchReport:
    """Times two models with the same inputs in onnxruntime.

    Args:
        a: The reference.
        b: The model to compare.
        rounds: Timed rounds; each runs both models and the reference once more.
        warm_up: Rounds before those; as many as it takes to settle where None.
        threads: Intra-op threads of every session.
        batch: Size of axis 0 where model and `input_shapes` leave it open.
        input_shapes: Whole shapes of inputs with dynamic axes.
        seed: Seed of the random inputs, of the order within rounds and of the resampling.
        provider: Execution provider, such as `cpu` or `cuda`. Copies to and from a device count.
        operators: Whether to profile both models, too, in runs of their own.
        memory: Whether to measure peak memory, too, in processes of its own.

    Returns:
        Medians, quartiles, ratio with its interval, noise floor and the machine's record.

    Raises:
        ModelError: A model cannot be read or run.
        ConfigError: Numbers that make no sense, or models whose inputs differ.
    """
    if rounds < _FEWEST_ROUNDS or (warm_up or 0) < 0 or threads < 1 or batch < 1:
        raise ConfigError("bench needs at least 3 rounds, 1 thread and a batch of 1")
    subject = make_subject(a, b, batch=batch, input_shapes=input_shapes, seed=seed)
    first, second = subject.sources
    sessions = [
        open_session(source, threads=threads, provider=provider)
        for source in (first, second, first)
    ]
    runs = [lambda s=session: run_session(s, subject.feeds) for session in sessions]
    timed = interleave(runs, rounds, warm_up=warm_up, seed=seed)
    del sessions, runs  # what is measured next starts without them
    base, other, again = timed.seconds.T
    return BenchReport(
        a=timing(base),
        b=timing(other),
        ratio=ratio_of_medians(base, other),
        interval=bootstrap_interval(base, other, seed=seed),
        confidence=CONFIDENCE,
        noise_floor=noise_floor(bootstrap_interval(base, again, seed=seed)),
        machine=machine_record(),
        threads=threads,
        input_shapes=subject.input_shapes,
        provider=provider,
        warm_up=timed.warm_up,
        steady=timed.steady,
        seed=seed,
        profile=profile(subject, threads=threads, provider=provider) if operators else None,
        memory=peak_memory(subject, threads=threads, provider=provider) if memory else None,
    )


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to vary; every combination is measured.

    Attributes:
        batches: Sizes of axis 0 where model and shapes leave it open.
        threads: Intra-op threads.
        input_shapes: Whole shapes of inputs with dynamic axes, one mapping per point.
    """

    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    input_shapes: tuple[Mapping[str, tuple[int, ...]], ...] = ({},)


def bench_sweep(
    a: Model | str | os.PathLike[str],
    b: Model | str | os.PathLike[str],
    sweep: Sweep,
    *,
    rounds: int = 50,
    warm_up: int | None = None,
    seed: int = 0,
    provider: str = CPU,
    operators: bool = False,
    memory: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[BenchReport, ...]:
    """`benchmark` at every combination of batch, shape and threads.

    Args:
        a: The reference.
        b: The model to compare.
        sweep: What to vary.
        rounds: Timed rounds per combination.
        warm_up: Rounds before those; as many as it takes to settle where None.
        seed: Seed of inputs, order and resampling.
        provider: Execution provider.
        operators: Whether to profile both models, too.
        memory: Whether to measure peak memory, too.
        progress: Called with (what, done, total).

    Returns:
        One report per combination: shapes outermost, then batches, then threads.

    Raises:
        ModelError: A model cannot be read or run.
        ConfigError: Numbers that make no sense, nothing to measure, or models that differ.
    """
    points = list(_points(sweep))
    if not points:
        raise ConfigError("there is nothing to measure: give a batch, a shape and a thread count")
    models = [m if isinstance(m, Model) else load(m) for m in (a, b)]
    reports = []
    for done, (shapes, batch, threads) in enumerate(points):
        if progress is not None:
            progress("timing", done, len(points))
        reports.append(
            benchmark(
                *models,
                rounds=rounds,
                warm_up=warm_up,
                threads=threads,
                batch=batch,
                input_shapes=shapes,
                seed=seed,
                provider=provider,
                operators=operators,
                memory=memory,
            )
        )
    return tuple(reports)


def _points(sweep: Sweep) -> Iterable[tuple[Mapping[str, tuple[int, ...]], int, int]]:
    return product(sweep.input_shapes, sweep.batches, sweep.threads)
