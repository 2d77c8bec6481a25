"""Options of retraining, validated once, where they enter. Needs no PyTorch."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from onnx_scsp.errors import ConfigError

OPTIMISERS = ("sgd", "adamw")
RATES = ("cosine", "one-cycle", "constant")
PRECISIONS = ("32", "bf16")
NORMS = ("auto", "keep", "slots")
PENALTIES = ("none", "group", "exclusive", "group-exclusive", "balanced")
_CROP = re.compile(r"crop([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class RetrainConfig:
    """How a network is trained while, or after, its channels go.

    Attributes:
        method: A name of the schedule table (`onnx_scsp.retrain.SCHEDULES`).
        epochs: Passes over the training samples, before and after the hard cut together.
        settle: Share of the epochs that comes after the hard cut, 0 to 1; None is the schedule's.
        batch: Samples per update, over all processes and accumulated parts.
        accumulate: Parts that a batch is computed in.
        optimiser: `sgd` (Nesterov momentum) or `adamw`.
        rate: Largest learning rate; None is 0.02 for `sgd` and 0.0005 for `adamw`.
        rates: Course of the learning rate: `cosine`, `one-cycle` or `constant`.
        warm_up: Share of all updates in which the rate climbs to its largest value.
        momentum: Momentum of `sgd`.
        weight_decay: L2 decay of weights with two axes or more.
        clip: Largest norm of the gradient; 0 switches clipping off.
        ema: Decay of the moving average of the weights that is written in the end; 0 = off.
        precision: `32`, or `bf16` (mixed precision; weights stay float32).
        augment: Names joined by commas: `flip`, `cropN` (shift by up to N pixels).
        held_out: Share of the samples that is not trained on but measured after every epoch.
        distill: Whether the outputs of the original network are a target.
        distill_weight: Share of the loss that distillation has beside labels.
        temperature: Softens the class scores that are distilled.
        feature_weight: Weight of the distance between intermediate features; 0 = off.
        loss: `module:function` in place of cross-entropy; called with (outputs by name, labels).
        output_name: Name of the output with the class scores; "" is the first one.
        penalty: A regulariser: `group`, `exclusive`, `group-exclusive` or `balanced`.
        penalty_weight: Its weight.
        norm: `slots` restores a BatchNormalization behind every Conv that it was folded into and
            folds it back in the end, `keep` trains what is there, `auto` is `slots` where the
            network has no BatchNormalization.
        patience: Stop when the metric has not improved for this many epochs after the cut, and take
            the best weights; 0 = off.
        seed: Of the order of samples, the augmentation, and whatever else is random.
        checkpoint_steps: Write a checkpoint every so many updates, besides one per epoch; 0 = off.
        accelerator: `auto`, `cpu`, `cuda`, ... as Lightning Fabric spells it.
    """

    method: str = "scsp"
    epochs: int = 5
    settle: float | None = None
    batch: int = 128
    accumulate: int = 1
    optimiser: str = "sgd"
    rate: float | None = None
    rates: str = "cosine"
    warm_up: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 0.0
    ema: float = 0.0
    precision: str = "32"
    augment: str = ""
    held_out: float = 0.1
    distill: bool = False
    distill_weight: float = 0.5
    temperature: float = 4.0
    feature_weight: float = 0.0
    loss: str = ""
    output_name: str = ""
    penalty: str = "none"
    penalty_weight: float = 1e-4
    norm: str = "auto"
    patience: int = 0
    seed: int = 0
    checkpoint_steps: int = 0
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        for name, low in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"--{_spelled(name)} {value} is no whole number from {low} on")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"--{_spelled(name)} {value!r} is no number")
            if not least <= value <= most:  # not true of NaN either
                raise ConfigError(f"--{_spelled(name)} {value:g} is outside [{least:g}, {most:g}]")
        for name, choices in _NAMES.items():
            value = getattr(self, name)
            if value not in choices:
                option = f"--{_spelled(name)}"
                raise ConfigError(f"{option} '{value}' is unknown; use one of {', '.join(choices)}")
        parse_augment(self.augment)

    @property
    def largest_rate(self) -> float:
        """The learning rate, or what stands in for it."""
        return {"sgd": 0.02, "adamw": 5e-4}[self.optimiser] if self.rate is None else self.rate

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON-ready values."""
        return asdict(self)


_WHOLE = {
    "epochs": 1, "batch": 1, "accumulate": 1, "patience": 0, "seed": 0, "checkpoint_steps": 0,
}  # fmt: skip
_RANGES: dict[str, tuple[float, float]] = {
    "settle": (0.0, 1.0),
    "rate": (1e-12, 1e3),
    "warm_up": (0.0, 1.0),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "clip": (0.0, 1e9),
    "ema": (0.0, 0.99999),
    "held_out": (0.0, 0.9),
    "distill_weight": (0.0, 1.0),
    "temperature": (1e-3, 1e3),
    "feature_weight": (0.0, 1e6),
    "penalty_weight": (0.0, 1e3),
}
_NAMES = {
    "optimiser": OPTIMISERS,
    "rates": RATES,
    "precision": PRECISIONS,
    "penalty": PENALTIES,
    "norm": NORMS,
}


def _spelled(name: str) -> str:
    return name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Augment:
    """What happens to training images at random.

    Attributes:
        flip: Half of them are mirrored left to right.
        crop: Largest shift, in pixels; what comes in is 0.
    """

    flip: bool = False
    crop: int = 0

    def __bool__(self) -> bool:
        return self.flip or self.crop > 0


def parse_augment(text: str) -> Augment:
    """Reads `flip,crop4`.

    Raises:
        ConfigError: A word is unknown.
    """
    flip, crop = False, 0
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = _CROP.fullmatch(word)
        if word == "flip":
            flip = True
        elif found:
            crop = int(found[1])
        else:
            raise ConfigError(f"--augment '{word}' is unknown; use flip and crop4, or both")
    return Augment(flip, crop)


def epochs_after_cut(config: RetrainConfig, share: float) -> int:
    """How many of the epochs come after the hard cut; at least one where the share is above 0."""
    wanted = share if config.settle is None else config.settle
    rounded = math.floor(wanted * config.epochs + 0.5)
    return min(max(rounded, 1 if wanted > 0 else 0), config.epochs)
