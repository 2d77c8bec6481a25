"""Which planner budget meets a measured latency: regula falsi on the planner's own estimate.

    r(v)      measured latency ratio of the plan whose estimated latency is the share v
    v_0       = goal
    v_next    where the line through the nearest points on both sides of the goal meets it;
              (1, 1) is one of them from the start

until r is within the tolerance of the goal, the interval is too small to hold another plan, or the
trials are used up. Equal cuts are measured once. Where the planner reports its floor before the
goal is met, the floor is measured, and what it measures is what the user is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx_scsp.errors import BudgetError, ConfigError
from onnx_scsp.measure.compare import Comparison
from onnx_scsp.replan import plan_digest
from onnx_scsp.types import PrunePlan

_EARLY = 0.6
"""Share of the tolerance within which a search ends: the result is measured again afterwards."""
_NARROW = 0.004
_LOWEST = 0.01
_STEPS = 4
"""Plans that are made per trial at most; equal ones are not measured again."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency that the result shall have.

    Attributes:
        fraction: Of the original's.
        ms: Milliseconds; exactly one of the two is given.
        threads: Intra-op threads.
        provider: Execution provider.
        batch: Size of axis 0 where model and shapes leave it open.
        tolerance: How near the measured latency comes, relative to the goal.
        most_trials: Plans that are measured at most.
    """

    fraction: float | None = None
    ms: float | None = None
    threads: int = 1
    provider: str = "cpu"
    batch: int = 1
    tolerance: float = 0.05
    most_trials: int = 8

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.ms is None):
            raise ConfigError("give exactly one latency: --latency or --latency-ms")
        for name in ("fraction", "ms", "tolerance"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise ConfigError(f"{name} is {value!r}, which is no number")
        if self.fraction is not None and not 0.0 < self.fraction < 1.0:
            raise ConfigError(
                f"--latency {self.fraction:g} is outside (0, 1); give the fraction of the "
                "original's latency that may remain, such as 0.6"
            )
        if self.ms is not None and not 0.0 < self.ms < float("inf"):
            raise ConfigError(f"--latency-ms {self.ms:g} is no positive number of milliseconds")
        if not 0.0 < self.tolerance < 1.0:
            raise ConfigError(f"tolerance {self.tolerance:g} is outside (0, 1)")
        for name in ("threads", "batch", "most_trials"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} {value!r} is no positive whole number")

    def goal(self, original_ms: float) -> float:
        """The goal as a fraction of the original.

        Raises:
            ConfigError: The original meets it already.
        """
        if self.fraction is not None:
            return self.fraction
        assert self.ms is not None
        if self.ms >= original_ms:
            raise ConfigError(
                f"the original takes {original_ms:.4g} ms: --latency-ms {self.ms:g} is met without "
                "a cut"
            )
        return self.ms / original_ms

    @property
    def asked(self) -> str:
        """The option as the user gave it."""
        if self.fraction is not None:
            return f"--latency {self.fraction:g}"
        return f"--latency-ms {self.ms:g}"


@dataclass(frozen=True, slots=True)
class LatencyTrial:
    """One plan that was measured.

    Attributes:
        value: The planner's budget: estimated latency, as a fraction.
        ratio: Measured latency, as a fraction.
        noise: Noise floor of that.
        a_ms: The original beside it.
        b_ms: The candidate.
    """

    value: float
    ratio: float
    noise: float
    a_ms: float
    b_ms: float


Plan = Callable[[float], PrunePlan]
Measure = Callable[[PrunePlan], Comparison]


class LatencySearch:
    """The search.

    Attributes:
        trials: What was measured, in order.
    """

    def __init__(self, latency: Latency, goal: float, plan: Plan, measure: Measure) -> None:
        self._latency, self._goal = latency, goal
        self._plan, self._measure = plan, measure
        self._known: dict[str, LatencyTrial] = {}
        self._floor: float | None = None
        self.trials: list[LatencyTrial] = []

    def run(self) -> tuple[PrunePlan, LatencyTrial]:
        """The plan that comes nearest to the goal, and its measurement.

        Raises:
            BudgetError: The goal cannot be reached.
        """
        goal, tolerance = self._goal, self._latency.tolerance
        low: tuple[float, float] | None = None
        high = (1.0, 1.0)
        found: list[tuple[float, PrunePlan, LatencyTrial]] = []
        value = goal
        for _ in range(_STEPS * self._latency.most_trials):
            if len(self.trials) == self._latency.most_trials:
                break
            value, plan = self._planned(value)
            trial = self._tried(value, plan)
            found.append((abs(trial.ratio / goal - 1.0), plan, trial))
            if found[-1][0] <= _EARLY * tolerance:
                break
            if trial.ratio > goal:
                if self._floor is not None and value <= self._floor:
                    break
                high = (value, trial.ratio)
            else:
                low = (value, trial.ratio)
            if low is not None and high[0] - low[0] < _NARROW:
                break
            value = _next(low, high, goal)
        met = [entry for entry in found if entry[2].ratio <= goal * (1.0 + tolerance)]
        if not met:
            raise BudgetError(self._refusal(min(t.ratio for t in self.trials)))
        _, plan, trial = min(met, key=lambda entry: entry[0])
        return plan, trial

    def _planned(self, value: float) -> tuple[float, PrunePlan]:
        try:
            return value, self._plan(value)
        except BudgetError as error:
            if error.floor is None or not 0.0 < error.floor < 1.0:
                raise
            self._floor = error.floor * (1.0 + 1e-6)
            return self._floor, self._plan(self._floor)

    def _tried(self, value: float, plan: PrunePlan) -> LatencyTrial:
        digest = plan_digest(plan)
        if digest not in self._known:
            seen = self._measure(plan)
            trial = LatencyTrial(value, seen.ratio, seen.noise, seen.a_ms, seen.b_ms)
            self._known[digest] = trial
            self.trials.append(trial)
        return self._known[digest]

    def _refusal(self, best: float) -> str:
        asked, fastest = self._latency.asked, min(self.trials, key=lambda trial: trial.ratio)
        figures = (
            f"{best:.3f} of the original's latency ({fastest.b_ms:.4g} ms of {fastest.a_ms:.4g} ms)"
        )
        if self._floor is None:
            return f"{asked} was not met in {len(self.trials)} trials; the fastest took {figures}"
        return (
            f"{asked} cannot be reached: with as few channels as --min-share and --align allow, "
            f"the model still takes {figures}; the rest of its time is not in what can be cut"
        )


def _next(low: tuple[float, float] | None, high: tuple[float, float], goal: float) -> float:
    """The next budget to try."""
    if low is None:
        value, ratio = high
        slope = (1.0 - ratio) / (1.0 - value) if value < 1.0 and ratio < 1.0 else 1.0
        aimed = value - (ratio - goal) / max(slope, 0.25)
        return min(max(aimed, value / 4, _LOWEST), value * 0.98)
    share = (goal - low[1]) / max(high[1] - low[1], 1e-9)
    width = high[0] - low[0]
    return low[0] + min(max(share, 0.1), 0.9) * width
