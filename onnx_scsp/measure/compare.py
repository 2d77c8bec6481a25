"""Is one model slower than another? As few runs as it takes to tell.

Rounds of A, B and A again are added until it is clear on which side of the noise the ratio lies, or
how large it is, or until the rounds are used up. Models too big to be held side by side run one
after the other, A, B, A.

    ratio     = q(b) / q(a),  q the lowest fifth over rounds
    interval  = 95 % of the same over rounds drawn with replacement
    noise     = how far from 1 that interval reaches for a second session of A

What disturbs a run makes it longer, never shorter: the lowest fifth says what a model takes where
other processes come between, too. With one thread those do not count at all (see `clock`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import CPU, InferenceSession, open_session, run_session
from onnx_scsp.measure.clock import clock_for
from onnx_scsp.measure.interleave import interleave
from onnx_scsp.measure.resample import noise_floor
from onnx_scsp.measure.subject import Subject, make_subject
from onnx_scsp.types import AnyArray, FloatArray

BATCHES = (2, 2, 8, 20, 24)
"""Rounds that are added each time."""
_WARM_UP = 1
_SHARE, _RESAMPLES = 0.2, 1000
_HELD_BYTES = 1 << 28
"""Above this, no two sessions at once."""
_SURE = 0.03
"""A ratio whose interval is this narrow, relative to it, needs no more rounds."""
_CLOSE = 0.02
"""Ratios nearer to 1 than this are no difference, however quiet the machine."""
_OBVIOUS = 0.9
"""Two rounds suffice where B at its slowest takes less than this share of A at its fastest."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models side by side.

    Attributes:
        ratio: Time of the second over time of the first.
        low: Lower end of its 95 % interval.
        high: Upper end.
        noise: How far from 1 the first model's ratio to itself reaches.
        a_ms: Time of the first.
        b_ms: Time of the second.
    """

    ratio: float
    low: float
    high: float
    noise: float
    a_ms: float
    b_ms: float

    @property
    def is_slower(self) -> bool:
        """Whether the second is slower beyond the noise."""
        return self.low > 1.0 + self.noise

    @property
    def is_clear(self) -> bool:
        """Whether more rounds would change no verdict."""
        return self.high < 1.0 or self.low > 1.0 + self.noise

    @property
    def is_sure(self) -> bool:
        """Whether more rounds would hardly change the ratio."""
        return self.high - self.low <= _SURE * self.ratio


Opener = Callable[[Path | bytes], InferenceSession]
Compare = Callable[[Model, Model | Path], Comparison]
"""The original and a candidate -> how they compare."""


def comparer(
    *,
    threads: int = 1,
    provider: str = CPU,
    batch: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    thorough: bool = False,
) -> Compare:
    """A function that compares models on this machine.

    Args:
        threads: Intra-op threads.
        provider: Execution provider.
        batch: Size of axis 0 where model and `input_shapes` leave it open.
        input_shapes: Whole shapes of inputs with dynamic axes.
        thorough: Go on until the ratio itself is known, not only on which side of 1 it lies.

    Returns:
        The function; it raises ModelError where a model cannot be run.
    """

    def compare(a: Model, b: Model | Path) -> Comparison:
        subject = make_subject(a, b, batch=batch, input_shapes=input_shapes)

        def open_(source: Path | bytes) -> InferenceSession:
            return open_session(source, threads=threads, provider=provider)

        clock = clock_for(threads, provider)
        if _bytes(subject) > _HELD_BYTES:
            return _in_turn(subject, open_, clock)
        return _interleaved(subject, open_, clock, thorough=thorough)

    return compare


def _bytes(subject: Subject) -> int:
    source = subject.sources[0]
    if isinstance(source, bytes):
        return len(source)
    model = subject.models[0]
    external = sum((model.folder / name).stat().st_size for name in model.external_files)
    return source.stat().st_size + external


def _interleaved(
    subject: Subject, open_: Opener, clock: Callable[[], float], *, thorough: bool
) -> Comparison:
    first, second = subject.sources
    sessions = [open_(first), open_(second), open_(first)]
    runs = [_runner(session, subject.feeds) for session in sessions]
    seconds = interleave(runs, BATCHES[0], warm_up=_WARM_UP, clock=clock).seconds
    for seed, rounds in enumerate(BATCHES[1:], start=1):
        if _suffices(seconds, thorough=thorough):
            break
        timed = interleave(runs, rounds, warm_up=0, seed=seed, clock=clock)
        seconds = np.concatenate([seconds, timed.seconds])
    return _judged(*seconds.T)


def _suffices(seconds: FloatArray, *, thorough: bool) -> bool:
    """Whether more rounds would change nothing that is asked for."""
    rounds, found = len(seconds), _judged(*seconds.T)
    if thorough:
        return found.is_sure and rounds > sum(BATCHES[:2])
    if rounds < sum(BATCHES[:2]):
        a, b, again = seconds.T
        return bool(b.max() < _OBVIOUS * min(a.min(), again.min()))
    return found.is_clear


def _in_turn(subject: Subject, open_: Opener, clock: Callable[[], float]) -> Comparison:
    columns = []
    for source in (*subject.sources, subject.sources[0]):
        session = open_(source)
        run = _runner(session, subject.feeds)
        rounds = sum(BATCHES[:2])
        columns.append(interleave([run], rounds, warm_up=1, clock=clock).seconds[:, 0])
        del session, run
    return _judged(*columns)


def _judged(a: FloatArray, b: FloatArray, again: FloatArray) -> Comparison:
    low, high = _interval(a, b)
    first, second = (float(np.quantile(seconds, _SHARE)) for seconds in (a, b))
    return Comparison(
        ratio=second / first,
        low=low,
        high=high,
        noise=max(noise_floor(_interval(a, again)), _CLOSE),
        a_ms=1e3 * first,
        b_ms=1e3 * second,
    )


def _interval(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Bootstrap interval of the ratio; a round is drawn as a whole."""
    drawn = np.random.default_rng(0).integers(0, a.size, (_RESAMPLES, a.size))
    ratios = np.quantile(b[drawn], _SHARE, axis=1) / np.quantile(a[drawn], _SHARE, axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def _runner(session: InferenceSession, feeds: Mapping[str, AnyArray]) -> Callable[[], object]:
    return lambda: run_session(session, feeds)
