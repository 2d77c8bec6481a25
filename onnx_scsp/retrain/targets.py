"""What a run learns from: the caller's options against the outputs that the network has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from onnx_scsp.calibration.hooks import load_hook
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import view
from onnx_scsp.retrain.feed import Feed
from onnx_scsp.retrain.lift import Lifted
from onnx_scsp.retrain.losses import (
    Objective,
    are_probabilities,
    are_scores,
    check_labels,
    squeezed,
)
from onnx_scsp.retrain.options import RetrainConfig
from onnx_scsp.retrain.student import as_tensors
from onnx_scsp.types import IntArray

_SAMPLES = 64
_FEATURE_OPS = frozenset({"Add", "Relu"})


def check_targets(
    config: RetrainConfig, labels: IntArray | None, loss: Callable[..., Any] | None
) -> None:
    """Refuses runs that have nothing to learn from.

    Raises:
        ConfigError: Labels or distillation are missing.
    """
    if labels is None and (loss is not None or config.loss):
        raise ConfigError("a loss of your own gets labels; give --labels")
    if labels is None and not config.distill:
        raise ConfigError("there is nothing to learn from; give --labels, --distill, or both")
    if config.feature_weight and not config.distill:
        raise ConfigError("--feature-weight compares with the original; give --distill")


def comparable_values(model: Model) -> list[str]:
    """Activations that features may be compared at: sums and what comes out of a ReLU."""
    nodes = view(model.proto).nodes
    return [node.outputs[0] for node in nodes if node.op_type in _FEATURE_OPS]


@torch.no_grad()
def make_objective(
    config: RetrainConfig,
    original: Model,
    teacher: Lifted,
    train: Feed,
    loss: Callable[..., Any] | None,
) -> Objective:
    """The loss that the options ask for, fitted to the outputs that the network has.

    Args:
        config: Options.
        original: The network.
        teacher: The same, lifted.
        train: Samples.
        loss: The caller's own loss, if any.

    Returns:
        The objective, without features.

    Raises:
        ConfigError: An output is missing, or labels do not fit.
    """
    arrays, labels = train.take(np.arange(min(_SAMPLES, len(train))))
    device = next(teacher.parameters()).device
    answers = teacher.run(as_tensors(arrays, None, device)[0])
    names = tuple(name for name in view(original.proto).outputs if name in answers)
    _check_output(config.output_name, names)
    floats = tuple(name for name in names if answers[name].is_floating_point())
    if config.output_name:
        floats = tuple(dict.fromkeys((config.output_name, *floats)))
    scores = config.output_name or next((n for n in floats if are_scores(answers[n])), "")
    own = loss or (load_hook(config.loss) if config.loss else None)
    if labels is not None and own is None:
        _check_classes(scores, answers, train, names)
    known = frozenset(n for n in floats if are_scores(answers[n]) and are_probabilities(answers[n]))
    share = 0.0
    if config.distill:
        share = config.distill_weight if labels is not None else 1.0
    return Objective(
        outputs=floats,
        scores=scores,
        probabilities=known,
        share=share,
        temperature=config.temperature,
        feature_weight=config.feature_weight,
        own=own,
        own_name=config.loss or getattr(loss, "__name__", "the loss"),
    )


def _check_output(wanted: str, names: Sequence[str]) -> None:
    if wanted and wanted not in names:
        raise ConfigError(
            f"--output-name '{wanted}' is no output; the model has {', '.join(names)}"
        )


def _check_classes(
    scores: str, answers: Mapping[str, torch.Tensor], train: Feed, names: Sequence[str]
) -> None:
    if not scores or not are_scores(answers[scores]):
        raise ConfigError(
            f"no output ({', '.join(names)}) is a row of class scores per sample; leave --labels "
            "out (retrain takes --distill in its place, or a --loss module:function beside it)"
        )
    assert train.labels is not None
    classes = squeezed(answers[scores]).shape[1]
    check_labels(torch.from_numpy(np.asarray(train.labels)), classes, "the labels")
