"""Options of `retrain` that say how to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

_LEARN, _STEP, _RUN = "What is learnt", "How it is learnt", "The run"

DataOpt = Annotated[
    str,
    typer.Option(
        metavar="DATA",
        help="Training samples: a folder of images, .npz with the input names as keys, .npy for a "
        "single input, or module:function that yields dictionaries input name -> array.",
        rich_help_panel=_LEARN,
    ),
]
DataLimitOpt = Annotated[
    int | None, typer.Option(help="Use this many samples.", rich_help_panel=_LEARN)
]
LabelsOpt = Annotated[
    Path | None,
    typer.Option(
        help="True classes of the samples: .npy, or .csv with one label per line or file,label.",
        rich_help_panel=_LEARN,
    ),
]
DistillOpt = Annotated[
    bool,
    typer.Option("--distill", help="Learn the original's outputs.", rich_help_panel=_LEARN),
]
DistillWeightOpt = Annotated[
    float, typer.Option(help="Their share of the loss beside labels.", rich_help_panel=_LEARN)
]
TemperatureOpt = Annotated[
    float, typer.Option(help="Softens distilled class scores.", rich_help_panel=_LEARN)
]
FeatureWeightOpt = Annotated[
    float,
    typer.Option(help="Weight of activations beside outputs, 0 = off.", rich_help_panel=_LEARN),
]
LossOpt = Annotated[
    str,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Your loss in place of cross-entropy: (outputs by name, labels) -> tensor.",
        rich_help_panel=_LEARN,
    ),
]
OutputNameOpt = Annotated[
    str,
    typer.Option(
        help="The output with the class scores; the first where not given.", rich_help_panel=_LEARN
    ),
]
HeldOutOpt = Annotated[
    float,
    typer.Option(help="Share of the samples to measure on after every epoch.",
                 rich_help_panel=_LEARN),
]  # fmt: skip
AugmentOpt = Annotated[
    str,
    typer.Option(help="flip, cropN (shift by up to N pixels), or flip,crop4.",
                 rich_help_panel=_LEARN),
]  # fmt: skip
PenaltyOpt = Annotated[
    str,
    typer.Option(
        help="none, group, exclusive, group-exclusive or balanced.", rich_help_panel=_LEARN
    ),
]
PenaltyWeightOpt = Annotated[float, typer.Option(help="Its weight.", rich_help_panel=_LEARN)]

ScheduleOpt = Annotated[
    str,
    typer.Option(
        "--method",
        help="scsp, scsp-decay, scsp-merge, sfp, bn-gamma, fractional, one-per-cluster or "
        "finetune.",
    ),
]
SelectOpt = Annotated[
    str,
    typer.Option(
        help="How the planner chooses channels, as `prune --method`; auto is the schedule's way."
    ),
]
EpochsOpt = Annotated[int, typer.Option(help="Passes over the samples, all together.")]
SettleOpt = Annotated[
    float | None,
    typer.Option(help="Share of the epochs after the cut; the schedule's where not given."),
]
PlanFileOpt = Annotated[
    Path | None, typer.Option("--plan", help="A plan file in place of a budget.")
]
NormOpt = Annotated[
    str,
    typer.Option(
        help="slots: restore folded BatchNormalizations for the training; keep: train what is "
        "there; auto: slots where there is none.",
        rich_help_panel=_STEP,
    ),
]
BatchOpt = Annotated[
    int, typer.Option(help="Samples per update, over all processes.", rich_help_panel=_STEP)
]
AccumulateOpt = Annotated[
    int, typer.Option(help="Parts that a batch is computed in.", rich_help_panel=_STEP)
]
OptimiserOpt = Annotated[str, typer.Option(help="sgd or adamw.", rich_help_panel=_STEP)]
RateOpt = Annotated[
    float | None,
    typer.Option(
        help="Largest learning rate; 0.02 for sgd and 0.0005 for adamw where not given.",
        rich_help_panel=_STEP,
    ),
]
RatesOpt = Annotated[str, typer.Option(help="cosine, one-cycle or constant.",
                                       rich_help_panel=_STEP)]  # fmt: skip
WarmUpOpt = Annotated[
    float, typer.Option(help="Share of the updates until the largest rate.", rich_help_panel=_STEP)
]
MomentumOpt = Annotated[float, typer.Option(help="Momentum of sgd.", rich_help_panel=_STEP)]
WeightDecayOpt = Annotated[float, typer.Option(help="Decay of weights.", rich_help_panel=_STEP)]
ClipOpt = Annotated[
    float, typer.Option(help="Largest norm of the gradient, 0 = off.", rich_help_panel=_STEP)
]
EmaOpt = Annotated[
    float,
    typer.Option(help="Decay of a moving average of the weights, 0 = off.", rich_help_panel=_STEP),
]
PrecisionOpt = Annotated[str, typer.Option(help="32 or bf16.", rich_help_panel=_STEP)]
PatienceOpt = Annotated[
    int,
    typer.Option(
        help="Stop after this many epochs without a better metric, 0 = off.", rich_help_panel=_STEP
    ),
]
AcceleratorOpt = Annotated[
    str, typer.Option(help="auto, cpu, cuda, mps, ...", rich_help_panel=_STEP)
]
RunDirOpt = Annotated[
    Path | None,
    typer.Option(help="Folder of checkpoints and logs; OUT.run where not given.",
                 rich_help_panel=_RUN),
]  # fmt: skip
ResumeOpt = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run in that folder.", rich_help_panel=_RUN),
]
CheckpointOpt = Annotated[
    int,
    typer.Option(
        help="Write a checkpoint every so many updates, besides one per epoch; 0 = off.",
        rich_help_panel=_RUN,
    ),
]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The fields of `RetrainConfig`, but for the seed, which verbs share."""

    method: ScheduleOpt = "scsp"
    epochs: EpochsOpt = 5
    settle: SettleOpt = None
    distill: DistillOpt = False
    distill_weight: DistillWeightOpt = 0.5
    temperature: TemperatureOpt = 4.0
    feature_weight: FeatureWeightOpt = 0.0
    loss: LossOpt = ""
    output_name: OutputNameOpt = ""
    held_out: HeldOutOpt = 0.1
    augment: AugmentOpt = ""
    penalty: PenaltyOpt = "none"
    penalty_weight: PenaltyWeightOpt = 1e-4
    batch: BatchOpt = 128
    accumulate: AccumulateOpt = 1
    optimiser: OptimiserOpt = "sgd"
    rate: RateOpt = None
    rates: RatesOpt = "cosine"
    warm_up: WarmUpOpt = 0.05
    momentum: MomentumOpt = 0.9
    weight_decay: WeightDecayOpt = 1e-4
    clip: ClipOpt = 0.0
    ema: EmaOpt = 0.0
    precision: PrecisionOpt = "32"
    norm: NormOpt = "auto"
    patience: PatienceOpt = 0
    accelerator: AcceleratorOpt = "auto"
    checkpoint_steps: CheckpointOpt = 0
