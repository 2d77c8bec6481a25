"""Options that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_scsp.config import AUTO, PruneConfig
from onnx_scsp.errors import ConfigError

if TYPE_CHECKING:
    from onnx_scsp.plan import Choices

ModelArg = Annotated[Path, typer.Argument(metavar="MODEL", help="The .onnx file.")]
OutputOpt = Annotated[Path, typer.Option("--output", "-o", help="Where to write the result.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ShapeOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape", help="Shape for an input with dynamic axes, as NAME:1,3,224,224."
    ),
]
MacsOpt = Annotated[float | None, typer.Option(help="Fraction of the MACs that may remain.")]
ParamsOpt = Annotated[
    float | None, typer.Option(help="Fraction of the parameters that may remain.")
]
RatioOpt = Annotated[
    float | None, typer.Option(help="Fraction of the channels kept in every group.")
]
MethodOpt = Annotated[
    str,
    typer.Option(
        help="scsp, one-per-cluster, folding (k-means clusters), output-aware (looks at sample "
        "inputs), auto-criteria (tries several per group on such inputs), random, or a criterion: "
        "its least worthy channels go. auto: output-aware on the inputs of --calib or on synthetic "
        "images, scsp where there are neither."
    ),
]
CompensateOpt = Annotated[
    str,
    typer.Option(
        help="none, merge (survivors take over readers), fold (survivors become the means of their "
        "clusters); on sample inputs: reconstruct (layers behind the cut are refitted), gram (the "
        "same from Gram matrices of channels), bn (merge, then means and deviations are brought "
        "back, those of BatchNormalization where it is kept). auto: "
        "reconstruct on the inputs of --calib or on synthetic images, merge where there are "
        "neither; fold with folding."
    ),
]
ClustererOpt = Annotated[str, typer.Option(help="spectral, or the baseline kmeans.")]
CriterionOpt = Annotated[
    str,
    typer.Option(
        help="What a channel is worth, by weights: energy, l2, gamma (BatchNormalization's scale), "
        "fpgm, importance (a file's scores); by sample inputs: hrank, reap, contribution, "
        "output-error."
    ),
]
AffinityOpt = Annotated[
    str,
    typer.Option(
        help="By what channels are alike: weights, or functional (what they contribute to their "
        "readers on sample inputs)."
    ),
]
ImportanceOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        help="Scores for the criterion importance: name of a weight -> one number per channel that "
        "it makes (Taylor scores from training code, say).",
    ),
]
AlignOpt = Annotated[
    str,
    typer.Option(
        help="auto: counts at which the runtime is fast (see `profile`); or a number that counts "
        "are multiples of; 1 switches alignment off."
    ),
]
SpendByOpt = Annotated[
    str,
    typer.Option(
        help="What channels are charged with when they compete for --macs or --params: budget, "
        "time (estimated by the table of --align auto), or both; auto: both for --macs."
    ),
]
MinShareOpt = Annotated[float, typer.Option(help="No group keeps less than this share.")]
NoMergeOpt = Annotated[
    bool, typer.Option("--no-merge", help="Drop channels; no survivor takes over their readers.")
]
IgnoreOpt = Annotated[
    list[str] | None,
    typer.Option(help="Pattern of node or tensor names whose channels stay; may be repeated."),
]
NoSyntheticOpt = Annotated[
    bool,
    typer.Option(
        "--no-synthetic",
        help="Without --calib, go by the weights alone; else synthetic images stand in for inputs.",
    ),
]
NoSecondLookOpt = Annotated[
    bool,
    typer.Option(
        "--no-second-look",
        help="Measure what a cut of each group does before the layers behind it are repaired: "
        "quicker, and less accurate.",
    ),
]
ApproximateOpt = Annotated[
    bool,
    typer.Option(
        "--approximate",
        help="Also cut what LayerNorm or LRN normalises over; statistics are then of what stays.",
    ),
]
SeedOpt = Annotated[int, typer.Option(help="Seed of whatever is random.")]
ThreadsOpt = Annotated[int, typer.Option(min=1, help="Threads of onnxruntime.")]
ProviderOpt = Annotated[
    str, typer.Option(help="Execution provider that is installed, such as cpu or cuda.")
]
NoVerifyOpt = Annotated[
    bool, typer.Option("--no-verify", help="Write the result without checking it (not advised).")
]


@dataclass(frozen=True, slots=True)
class BudgetOptions:
    """What may remain."""

    macs: MacsOpt = None
    params: ParamsOpt = None
    ratio: RatioOpt = None

    @property
    def given(self) -> list[tuple[str, float]]:
        """Those that were given, by name."""
        budgets = {"macs": self.macs, "params": self.params, "ratio": self.ratio}
        return [(name, value) for name, value in budgets.items() if value is not None]


@dataclass(frozen=True, slots=True)
class ChoiceOptions:
    """What goes, and how the cut is mended."""

    method: MethodOpt = "auto"
    clusterer: ClustererOpt = "spectral"
    criterion: CriterionOpt = "energy"
    affinity: AffinityOpt = "weights"
    importance: ImportanceOpt = None
    align: AlignOpt = AUTO
    spend_by: SpendByOpt = AUTO
    min_share: MinShareOpt = 0.1
    compensate: CompensateOpt = "auto"
    no_merge: NoMergeOpt = False
    ignore: IgnoreOpt = None
    approximate: ApproximateOpt = False
    no_synthetic: NoSyntheticOpt = False
    no_second_look: NoSecondLookOpt = False


def prune_config(
    budget: BudgetOptions, choice: ChoiceOptions, *, seed: int, searched: str | None = None
) -> PruneConfig:
    """Builds the configuration from options.

    Args:
        budget: What may remain.
        choice: What goes.
        seed: Of whatever is random.
        searched: The target whose budget a tolerance finds; no budget is given then.

    Returns:
        The configuration.

    Raises:
        ConfigError: Not exactly one budget was given, a value is out of range, or options
            contradict each other.
    """
    given = budget.given
    if searched is not None:
        if given:
            raise ConfigError(
                f"a {'latency is' if searched == 'latency' else 'tolerance finds'} the budget "
                f"itself; leave out --{given[0][0]}"
            )
        given = [(searched, PruneConfig().value)]
    if len(given) != 1:
        raise ConfigError(
            "give exactly one budget: --macs, --params, --ratio, --latency or --latency-ms; or a "
            "tolerance: --max-drop or --max-divergence"
        )
    if choice.no_merge and choice.compensate not in ("auto", "none"):
        raise ConfigError(f"--no-merge and --compensate {choice.compensate} contradict each other")
    target, value = given[0]
    return PruneConfig(
        target=target,
        value=value,
        method=choice.method,
        clusterer=choice.clusterer,
        criterion=choice.criterion,
        affinity=choice.affinity,
        align=parsed_align(choice.align),
        spend_by=choice.spend_by,
        min_share=choice.min_share,
        compensate="none" if choice.no_merge else choice.compensate,
        ignore=tuple(choice.ignore or ()),
        seed=seed,
        synthetic=not choice.no_synthetic,
        second_look=not choice.no_second_look,
        approximate=choice.approximate,
    )


def parsed_align(text: str) -> int | str:
    """`auto`, or a whole number.

    Raises:
        ConfigError: It is neither.
    """
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--align '{text}' is neither auto nor a whole number, such as 8"
        ) from None


def table_choices(importance: Path | None) -> Choices | None:
    """The tables to choose from, with scores from a file, if one was named.

    Raises:
        ConfigError: The file cannot be read.
    """
    if importance is None:
        return None
    from onnx_scsp.plan import Choices, read_importance

    return Choices(importance=read_importance(importance))


def input_shapes(options: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Parses `NAME:1,3,224,224`; `NAME:1x3x224x224` is the same.

    Raises:
        ConfigError: An option is spelled otherwise.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for option in options or ():
        name, colon, sizes = option.rpartition(":")
        try:
            shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not colon or not name or not shape:
            raise ConfigError(
                f"--input-shape '{option}' is not NAME:SIZES, such as image:1,3,224,224"
            )
        shapes[name] = shape
    return shapes
