"""What training brings down: labels, the outputs of the original network, or both.

    labels    cross-entropy of the class scores, or the caller's function
    outputs   class scores: T^2 KL(softmax(t / T) || softmax(s / T)), Hinton et al. 2015;
              anything else: mean (s - t)^2 / variance of t over the batch
    features  mean (s - t)^2 / mean t^2, over the activations whose shapes agree (Romero et al.
              2015)

    loss = (1 - a) labels + a (outputs + f features), a = 0 without distillation, 1 without labels

s student, t teacher. Outputs that are probabilities already count as their logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from onnx_scsp.calibration.hooks import failure
from onnx_scsp.errors import ConfigError

Outputs = Mapping[str, Tensor]
UserLoss = Callable[[Mapping[str, Tensor], Tensor], Tensor]
_SUM_TOLERANCE = 1e-3
_LEAST = 1e-12


def are_scores(values: Tensor) -> bool:
    """Whether an output is one row of class scores per sample."""
    return values.is_floating_point() and values.ndim >= 2 and squeezed(values).ndim == 2


def are_probabilities(values: Tensor) -> bool:
    """Whether rows of scores are not negative and sum to one."""
    rows = squeezed(values.detach()).float()
    sums = (rows.sum(1) - 1.0).abs()
    return bool((rows >= 0).all() and (sums < _SUM_TOLERANCE).all())


def squeezed(values: Tensor) -> Tensor:
    """Drops axes of length 1 but the sample axis and the class axis."""
    return values.reshape(*values.shape[:2], *[size for size in values.shape[2:] if size != 1])


def as_logits(values: Tensor, *, probabilities: bool) -> Tensor:
    """Class scores whose softmax is the network's answer."""
    rows = squeezed(values).float()
    return rows.clamp_min(_LEAST).log() if probabilities else rows


def cross_entropy(scores: Tensor, labels: Tensor, *, probabilities: bool) -> Tensor:
    """Mean of -log p(label)."""
    return functional.cross_entropy(as_logits(scores, probabilities=probabilities), labels)


def distance(
    student: Tensor, teacher: Tensor, temperature: float, *, probabilities: bool
) -> Tensor:
    """How far one output is from the teacher's."""
    if are_scores(teacher) and teacher.shape[1] > 1:
        t = as_logits(teacher, probabilities=probabilities) / temperature
        s = as_logits(student, probabilities=probabilities) / temperature
        divergence = functional.kl_div(
            s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True
        )
        return divergence * temperature**2
    t, s = teacher.float(), student.float()
    return (s - t).square().mean() / t.var(correction=0).clamp_min(_LEAST)


def feature_distance(student: Outputs, teacher: Outputs, names: Sequence[str]) -> Tensor:
    """Mean relative squared error over activations."""
    errors = [
        (student[name].float() - teacher[name].float()).square().mean()
        / teacher[name].float().square().mean().clamp_min(_LEAST)
        for name in names
    ]
    return torch.stack(errors).mean()


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The loss of one run.

    Attributes:
        outputs: Names of the outputs that are distilled.
        scores: Name of the output with the class scores, "" where there are no labels.
        probabilities: Outputs that are probabilities.
        share: Weight of distillation, 0 to 1.
        temperature: Of the distilled class scores.
        features: Activations that are compared.
        feature_weight: Their weight beside the outputs.
        own: The caller's loss, in place of cross-entropy.
        own_name: How the caller named it.
    """

    outputs: tuple[str, ...]
    scores: str
    probabilities: frozenset[str]
    share: float
    temperature: float = 4.0
    features: tuple[str, ...] = ()
    feature_weight: float = 0.0
    own: UserLoss | None = None
    own_name: str = ""

    @property
    def needs_teacher(self) -> bool:
        """Whether the original's outputs are a target."""
        return self.share > 0

    def __call__(self, student: Outputs, teacher: Outputs | None, labels: Tensor | None) -> Tensor:
        """The loss of one batch.

        Raises:
            ConfigError: The caller's own loss fails or is no number.
        """
        terms = []
        if self.share < 1:
            if labels is None:
                raise ConfigError("the loss needs labels; give --labels, or --distill alone")
            terms.append((1.0 - self.share) * self._labelled(student, labels))
        if teacher is not None and self.share > 0:
            terms.append(self.share * self._distilled(student, teacher))
        return torch.stack(terms).sum()

    def _labelled(self, student: Outputs, labels: Tensor) -> Tensor:
        if self.own is None:
            known = self.scores in self.probabilities
            return cross_entropy(student[self.scores], labels, probabilities=known)
        try:
            found = self.own({name: student[name] for name in self.outputs}, labels)
        except Exception as error:  # whatever the user's function raises
            raise ConfigError(f"{self.own_name} fails: {failure(error)}") from error
        if not isinstance(found, Tensor) or found.numel() != 1 or not found.requires_grad:
            raise ConfigError(
                f"{self.own_name} returns no loss; return a tensor of one element that has a "
                "gradient"
            )
        return found.reshape(())

    def _distilled(self, student: Outputs, teacher: Outputs) -> Tensor:
        errors = [
            distance(
                student[name],
                teacher[name],
                self.temperature,
                probabilities=name in self.probabilities,
            )
            for name in self.outputs
        ]
        total = torch.stack(errors).mean()
        if self.features and self.feature_weight > 0:
            total = total + self.feature_weight * feature_distance(student, teacher, self.features)
        return total


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Refuses labels that are no class of the network.

    Raises:
        ConfigError: A label is negative or too large.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ConfigError(
            f"{where}: label {high if high >= classes else low} is none of the network's "
            f"{classes} classes 0 to {classes - 1}"
        )
