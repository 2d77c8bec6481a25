"""Interleaved latency: A, B, A' in every round, so that drift hits all of them alike.

ratio       = median over rounds of b / a
noise floor = |median over rounds of a' / a - 1|, a' a second session of the first model
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import open_session, random_feeds, run_session
from onnx_scsp.graph.shapes import InputSpec, input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.measure.machine import machine_record
from onnx_scsp.types import BenchReport, FloatArray, Timing


def benchmark(
    a: Model | str | os.PathLike[str],
    b: Model | str | os.PathLike[str],
    *,
    rounds: int = 50,
    warm_up: int = 5,
    threads: int = 1,
    batch: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> BenchReport:
    """Times two models with the same inputs in onnxruntime.

    Args:
        a: The reference.
        b: The model to compare.
        rounds: Timed rounds; each runs both models and the reference once more.
        warm_up: Rounds before those.
        threads: Intra-op threads of every session.
        batch: Size of axis 0 where model and `input_shapes` leave it open.
        input_shapes: Whole shapes of inputs with dynamic axes.
        seed: Seed of the random inputs.

    Returns:
        Medians, quartiles, ratio, noise floor and the machine's record.

    Raises:
        ModelError: A model cannot be read or run.
        ConfigError: Numbers that make no sense, or models whose inputs differ.
    """
    if rounds < 3 or warm_up < 0 or threads < 1 or batch < 1:
        raise ConfigError("bench needs at least 3 rounds, 1 thread and a batch of 1")
    models = [m if isinstance(m, Model) else load(m) for m in (a, b)]
    specs = []
    for model in models:
        graph = view(model.proto)
        specs.append(input_specs(model, graph, Constants(model, graph), input_shapes))
    if [(s.name, s.elem_type) for s in specs[0]] != [(s.name, s.elem_type) for s in specs[1]]:
        raise ConfigError("the two models have different inputs; they cannot be timed side by side")
    given = input_shapes or {}
    feeds = random_feeds([_fixed(s) if s.name in given else s for s in specs[0]], seed, batch)
    sources = [m.path if m.path is not None else m.proto.SerializeToString() for m in models]
    sessions = [
        open_session(source, threads=threads) for source in (sources[0], sources[1], sources[0])
    ]
    seconds = np.zeros((rounds, 3))
    for index in range(-warm_up, rounds):
        # the order turns, so that no session always runs after the same one
        for place in np.roll(np.arange(3), index):
            start = time.perf_counter()
            run_session(sessions[place], feeds)
            if index >= 0:
                seconds[index, place] = time.perf_counter() - start
    return BenchReport(
        a=_timing(seconds[:, 0]),
        b=_timing(seconds[:, 1]),
        ratio=float(np.median(seconds[:, 1] / seconds[:, 0])),
        noise_floor=float(abs(np.median(seconds[:, 2] / seconds[:, 0]) - 1.0)),
        machine=machine_record(),
        threads=threads,
        input_shapes={name: tuple(array.shape) for name, array in feeds.items()},
    )


def _fixed(spec: InputSpec) -> InputSpec:
    """An input whose shape the caller has given: no axis is open any more."""
    return replace(spec, dynamic=(False,) * len(spec.shape))


def _timing(seconds: FloatArray) -> Timing:
    q1, median, q3 = np.percentile(seconds * 1e3, [25, 50, 75])
    return Timing(float(median), float(q1), float(q3), int(seconds.size))
