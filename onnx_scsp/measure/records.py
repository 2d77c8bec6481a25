"""What a measurement found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Latency of one model: median and quartiles over interleaved runs."""

    median_ms: float
    q1_ms: float
    q3_ms: float
    runs: int

    @property
    def iqr_ms(self) -> float:
        """Distance between the quartiles."""
        return self.q3_ms - self.q1_ms


@dataclass(frozen=True, slots=True)
class Share:
    """Time of one operator type, or of one layer, in two models.

    Attributes:
        name: The operator type, or the layer's name in the file.
        op: The operator type that the runtime ran.
        a_ms: Milliseconds per run in the first model.
        b_ms: The same in the second.
        a_count: Kernels that ran in the first model.
        b_count: The same in the second.
    """

    name: str
    op: str
    a_ms: float
    b_ms: float
    a_count: int
    b_count: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time goes, from a run of its own: profiling slows, so these are no latencies.

    Attributes:
        operators: By operator type, the longest in the first model first.
        layers: By layer, in the same order.
        runs: Profiled runs; each figure is a median over them.
    """

    operators: tuple[Share, ...]
    layers: tuple[Share, ...]
    runs: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak resident memory of loading and running a model, each in a process of its own.

    Attributes:
        a_bytes: First model, above `baseline_bytes`.
        b_bytes: Second model, the same.
        baseline_bytes: The process with the runtime and the inputs, before it opens the model.
    """

    a_bytes: int
    b_bytes: int
    baseline_bytes: int


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Two models timed side by side.

    Attributes:
        a: Timing of the first model.
        b: Timing of the second.
        ratio: Median of b over median of a.
        interval: Bootstrap interval of `ratio`, rounds resampled as pairs.
        confidence: Of that interval.
        noise_floor: How far from 1 the same interval reaches for the first model against itself.
        machine: What it ran on.
        threads: Intra-op threads.
        input_shapes: Input name -> shape.
        provider: Execution provider.
        warm_up: Rounds that ran before those that count.
        steady: Whether the times had settled by then; None where the caller set the warm-up.
        seed: Of inputs, order and resampling.
        profile: Where the time goes, if that was asked for.
        memory: Peak memory, if that was asked for.
    """

    a: Timing
    b: Timing
    ratio: float
    interval: tuple[float, float]
    confidence: float
    noise_floor: float
    machine: Mapping[str, str]
    threads: int
    input_shapes: Mapping[str, tuple[int, ...]]
    provider: str
    warm_up: int
    steady: bool | None
    seed: int
    profile: Profile | None = None
    memory: Memory | None = None

    @property
    def verdict(self) -> str:
        """`faster` or `slower` where the interval lies beyond the noise floor, else `alike`."""
        low, high = self.interval
        if high < 1.0 - self.noise_floor:
            return "faster"
        return "slower" if low > 1.0 + self.noise_floor else "alike"
