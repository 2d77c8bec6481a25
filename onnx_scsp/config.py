"""Options, validated once, where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from onnx_scsp.errors import ConfigError

AUTO = "auto"
BUDGET, TIME, BOTH = "budget", "time", "both"
TARGETS = ("macs", "params", "ratio", "latency")
SEEING = frozenset({"hrank", "reap", "contribution", "output-error"})
"""Criteria, and methods named after them, that read what inputs show."""
TRYING = "auto-criteria"
"""The method that tries the choices of several criteria."""
BY_WEIGHTS = frozenset(
    {"auto", "scsp", "one-per-cluster", "output-aware", "folding", "random", "weights"}
    | {"energy", "l2", "gamma", "fpgm", "importance"}
)
"""Methods, criteria and affinities that do not: any other may ask for a unit's activity."""
NEEDS_DATA: Mapping[str, frozenset[str]] = {
    "method": frozenset({"output-aware", TRYING}) | SEEING,
    "criterion": SEEING,
    "affinity": frozenset({"functional"}),
    "compensate": frozenset({"reconstruct", "gram", "bn"}),
}
"""Option -> names of its table that work from sample inputs alone."""


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """What to remove and how to choose it.

    Attributes:
        target: `macs`, `params` or `latency` (fraction of the whole that may remain) or `ratio`
            (fraction of channels kept in every group). For a latency that is measured and met, see
            `onnx_scsp.prune_to_latency`.
        value: The fraction, 0 < value < 1.
        method: A name of the method table (`onnx_scsp.plan.METHODS`) or of an extra one; `auto`
            is `output-aware` on calibration inputs or synthetic images, `scsp` without either.
        align: Channel counts are multiples of this where the group is wide enough; 1 = off; `auto`
            prefers counts at which the runtime is fast, by the machine table.
        spend_by: What a step is charged with when steps compete for a budget in MACs or parameters:
            `budget` (what the budget counts), `time` (milliseconds, estimated by the machine table)
            or `both`, a fifth and four fifths. The budget that is met stays the one that was named.
            `auto` is `both` for MACs with `align` = `auto`, else `budget`.
        min_share: No group keeps less than this share of its units.
        clusterer: A name of the clusterer table (`onnx_scsp.partition.CLUSTERERS`).
        criterion: A name of the criterion table (`onnx_scsp.describe.CRITERIA`): which unit of a
            cluster stays.
        affinity: A name of the affinity table (`onnx_scsp.describe.AFFINITIES`): by what units are
            alike, for methods that cluster and for merging.
        compensate: A name of the compensator table (`onnx_scsp.plan.COMPENSATORS`): `merge` lets a
            kept unit take over the readers of those it stands for, `reconstruct` refits the layers
            behind the cut on calibration inputs, `gram` does so from Gram matrices of channels
            alone, `bn` merges and brings means and deviations back, `fold` makes a kept unit the
            mean of its cluster, `none` selects only; `auto` is `fold` with `folding`, else
            `reconstruct` on calibration inputs or synthetic images and `merge` without either.
        merge_threshold: Smallest cosine at which a unit is taken over rather than dropped.
        ignore: Patterns (`fnmatch`) of node or tensor names whose channels stay.
        seed: For methods that draw random numbers.
        synthetic: Without sample inputs, choose and repair on synthetic images, where the model
            takes images; else by the weights alone.
        second_look: Whether groups are measured after the repair of all layers behind them, where
            the network is small enough for that; else with their readers alone repaired.
        approximate: Whether normalisations over channels may be cut: their statistics are then
            those of the channels that stay, and the result is no longer the original with the
            removed channels masked, but the original with them masked there, too.
    """

    target: str = "macs"
    value: float = 0.5
    method: str = "auto"
    align: int | str = "auto"
    spend_by: str = "auto"
    min_share: float = 0.1
    clusterer: str = "spectral"
    criterion: str = "energy"
    affinity: str = "weights"
    compensate: str = "auto"
    merge_threshold: float = 0.5
    ignore: tuple[str, ...] = ()
    seed: int = 0
    synthetic: bool = True
    second_look: bool = True
    approximate: bool = False

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ConfigError(f"target '{self.target}' is unknown; use one of {', '.join(TARGETS)}")
        _require_numbers(self, "value", "min_share", "merge_threshold")
        _require_integers(self, "seed")
        if isinstance(self.ignore, str) or not all(isinstance(p, str) for p in self.ignore):
            raise ConfigError("ignore is no sequence of patterns; give a tuple of strings")
        if not isinstance(self.approximate, bool):
            raise ConfigError(
                f"approximate is {self.approximate!r}, which is neither true nor false"
            )
        if not 0.0 < self.value < 1.0:
            raise ConfigError(
                f"--{self.target} {self.value:g} is outside (0, 1); "
                "give the fraction that may remain, such as 0.5"
            )
        if self.align != AUTO:
            _require_integers(self, "align")
        if isinstance(self.align, int) and self.align < 1:
            raise ConfigError(
                f"--align {self.align} is not positive; use 1 to switch alignment off"
            )
        _check_spending(self)
        if not 0.0 <= self.min_share < 1.0:
            raise ConfigError(f"--min-share {self.min_share:g} is outside [0, 1)")
        if not 0.0 <= self.merge_threshold <= 1.0:
            raise ConfigError(f"--merge-threshold {self.merge_threshold:g} is outside [0, 1]")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed} is outside [0, 2**32)")

    @property
    def wants_data(self) -> bool:
        """Whether inputs, given or synthetic, make a difference."""
        return "auto" in (self.method, self.compensate) or any(
            getattr(self, option) in names for option, names in NEEDS_DATA.items()
        )

    @property
    def wants_activity(self) -> bool:
        """Whether a criterion or an affinity may read what inputs show about units."""
        return not {self.method, self.criterion, self.affinity} <= BY_WEIGHTS

    @property
    def wants_ranks(self) -> bool:
        """Whether the ranks of feature maps are asked for."""
        return bool({"hrank", TRYING} & {self.method, self.criterion})

    def resolved(self, *, has_data: bool) -> PruneConfig:
        """The same options with `auto` spelled out, with or without calibration inputs.

        Raises:
            ConfigError: A choice needs inputs and there are none.
        """
        method, compensate = self.method, self.compensate
        if method == "auto":
            method = "output-aware" if has_data else "scsp"
        if compensate == "auto" and method == "folding":
            compensate = "fold"
        elif compensate == "auto":
            compensate = "reconstruct" if has_data else "merge"
        spend_by = self.spend_by
        if spend_by == AUTO:
            spend_by = BOTH if self.target == "macs" and self.align == AUTO else BUDGET
        resolved = replace(self, method=method, compensate=compensate, spend_by=spend_by)
        for option, names in NEEDS_DATA.items():
            name = getattr(resolved, option)
            if name in names and not has_data:
                raise ConfigError(
                    f"--{option} {name} works from sample inputs; give some with --calib"
                )
        return resolved

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON-ready values."""
        options = asdict(self)
        options["ignore"] = list(self.ignore)
        return options


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """How strictly a result is checked.

    Attributes:
        tolerance: Largest difference, relative to the largest output, that the oracles allow in
            float32 or wider; half precision uses `half_tolerance`.
        half_tolerance: The same for float16 and bfloat16 models.
        seed: Seed of the random inputs.
        threads: Threads of the runtime.
        input_shapes: Input name -> shape, for inputs whose axes are dynamic.
    """

    tolerance: float = 1e-4
    half_tolerance: float = 3e-2
    seed: int = 0
    threads: int = 2
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_numbers(self, "tolerance", "half_tolerance")
        _require_integers(self, "seed", "threads")
        for name in ("tolerance", "half_tolerance"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} {getattr(self, name):g} is outside [0, infinity)")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed} is outside [0, 2**32)")
        if self.threads < 1:
            raise ConfigError(f"--threads {self.threads} is not positive")


def _check_spending(config: PruneConfig) -> None:
    names = (AUTO, BUDGET, TIME, BOTH)
    if config.spend_by not in names:
        raise ConfigError(
            f"--spend-by '{config.spend_by}' is unknown; use one of {', '.join(names)}"
        )
    if config.spend_by not in (TIME, BOTH):
        return
    if config.target not in ("macs", "params"):
        raise ConfigError(
            f"--spend-by {config.spend_by} goes with a budget in MACs or parameters, "
            f"not with {config.target}"
        )
    if config.align != AUTO:
        raise ConfigError(
            f"--spend-by {config.spend_by} goes by the machine table of --align auto; "
            f"leave out --align {config.align}"
        )


def _require_numbers(options: object, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} is {value!r}, which is no number")


def _require_integers(options: object, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} is {value!r}, which is no whole number")
