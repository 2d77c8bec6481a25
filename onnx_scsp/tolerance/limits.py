"""How much worse a model may become, and what one trial found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnx_scsp.errors import ConfigError

_ROUNDING = 1e-9
"""0.99 - 0.98 shall be within a drop of 0.01."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse a model may become, and how finely the smallest one is searched for.

    Attributes:
        max_drop: How much less than the original's the metric may be, in its own unit.
        metric: `module:function` (or the function), called as by `onnx_scsp.evaluate.evaluate`;
            higher is better. `module:function#key` chooses one of several figures.
        key: The figure to go by, where the metric returns several.
        max_divergence: Largest divergence of the outputs, on calibration inputs that the repair
            does not see.
        lowest: Smallest fraction that is looked at, 0 < lowest < 1.
        resolution: The search ends when the fraction is known this closely, 0.001 <= resolution.
        most_trials: The search ends after this many measured cuts.
    """

    max_drop: float | None = None
    metric: str | Callable[..., Any] | None = None
    key: str | None = None
    max_divergence: float | None = None
    lowest: float = 0.1
    resolution: float = 0.02
    most_trials: int = 8

    def __post_init__(self) -> None:
        if (self.max_drop is None) == (self.max_divergence is None):
            raise ConfigError("give exactly one tolerance: --max-drop or --max-divergence")
        if (self.max_drop is None) != (self.metric is None):
            raise ConfigError("--max-drop and --metric module:function go together")
        for name in ("max_drop", "max_divergence", "lowest", "resolution"):
            self._check_number(name)
        if not 0.0 < self.lowest < 1.0:
            raise ConfigError(f"lowest {self.lowest:g} is outside (0, 1)")
        if not 0.001 <= self.resolution < 1.0 - self.lowest:
            raise ConfigError(
                f"resolution {self.resolution:g} is outside [0.001, {1.0 - self.lowest:g})"
            )
        if type(self.most_trials) is not int or self.most_trials < 1:
            raise ConfigError(f"most_trials {self.most_trials!r} is no positive whole number")
        if isinstance(self.metric, str) and "#" in self.metric:
            hook, _, key = self.metric.partition("#")
            if not key or self.key not in (None, key):
                raise ConfigError(f"--metric '{self.metric}' is not module:function#key")
            object.__setattr__(self, "metric", hook)
            object.__setattr__(self, "key", key)

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} is {value!r}, which is no number")
        if not 0.0 <= value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} {value:g} is outside [0, infinity)")

    @property
    def limit(self) -> float:
        """The largest loss that is tolerated."""
        return float(self.max_divergence if self.max_drop is None else self.max_drop)  # type: ignore[arg-type]

    def loss(self, original: float, figure: float) -> float:
        """Drop of the metric, or the divergence itself."""
        return figure if self.max_drop is None else original - figure

    def allows(self, original: float, figure: float) -> bool:
        """Whether a cut with this figure is tolerated."""
        slack = _ROUNDING * max(abs(original), abs(self.limit))
        return self.loss(original, figure) <= self.limit + slack

    def choose(self, figures: Mapping[str, float]) -> float:
        """The figure that counts.

        Raises:
            ConfigError: There are several and none was chosen, or not the chosen one.
        """
        known = ", ".join(figures)
        if self.key is None and len(figures) > 1:
            raise ConfigError(
                f"{self.metric_name} returns {known}; choose one as {self.metric_name}"
                f"#{next(iter(figures))}"
            )
        key = next(iter(figures)) if self.key is None else self.key
        if key not in figures:
            raise ConfigError(f"{self.metric_name} returns no '{key}' but {known}")
        return figures[key]

    @property
    def metric_name(self) -> str | None:
        """The metric as `module:function`."""
        if self.metric is None or isinstance(self.metric, str):
            return self.metric
        kind = self.metric if hasattr(self.metric, "__qualname__") else type(self.metric)
        return f"{kind.__module__}:{kind.__qualname__}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One cut that was measured.

    Attributes:
        fraction: The budget.
        achieved: What it came to, counted from the labels.
        figure: The metric, or the divergence; infinite where the outputs are not finite.
        loss: Drop of the metric, or the divergence.
        within: Whether that is tolerated.
    """

    fraction: float
    achieved: float
    figure: float
    loss: float
    within: bool
