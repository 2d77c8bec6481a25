"""Top-1, and how far two models are apart, gathered batch by batch.

Agreement of two models on one output, over samples i:

    agreement = mean_i  share of positions where argmax_c a_i = argmax_c b_i

A row of class scores (samples, C) has one position per sample, a map of class scores
(samples, C, ...) as many as it has pixels; c is axis 1, or the last axis of a map whose values are
probabilities along that one, such as the steps of a text (samples, steps, C). Axes of length 1 are
dropped first. An output of whole numbers (samples, ...) holds classes already and is compared value
by value. The divergence is in `gaps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.calibration import CalibrationData
from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate.gaps import KINDS, Gaps, class_axis, squeezed
from onnx_scsp.evaluate.predictor import Predictor
from onnx_scsp.inputs import spell
from onnx_scsp.types import AnyArray, IntArray


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models side by side.

    Attributes:
        agreement: Share of samples with the same class; None where the output has no classes.
        divergence: How far the second is from the first; 0 for equal outputs.
        samples: How many samples it was measured on.
    """

    agreement: float | None
    divergence: float
    samples: int


def top1(
    predictor: Predictor,
    data: CalibrationData,
    labels: IntArray,
    output: str | None = None,
    *,
    batch: int = 64,
) -> float:
    """Share of samples whose largest score is at the true class.

    Args:
        predictor: The model.
        data: Its inputs.
        labels: int array (samples,), the true classes in the order of `data`.
        output: The output with the scores (samples, C); the first where None.
        batch: Samples per run.

    Returns:
        The share, 0..1.

    Raises:
        ConfigError: Samples, labels and output do not fit each other.
    """
    name = _output(predictor, output)
    labels = np.asarray(labels)
    right = seen = 0
    for feeds in data.batches(batch):
        scores = _array(predictor(feeds), name)
        found = _classes(scores)
        count = len(next(iter(feeds.values())))
        if found is None or found.shape != (count,):
            raise ConfigError(
                f"output '{name}' ({spell(scores.shape)}) is no row of class scores per sample; "
                "name another output"
            )
        part = labels[seen : seen + count]
        if len(part) < count:
            raise ConfigError(f"there are {len(labels)} labels, and more samples in {data.where}")
        n_classes = scores.size // count
        if scores.dtype.kind == "f" and not 0 <= part.min() <= part.max() < n_classes:
            raise ConfigError(
                f"the labels run from {part.min()} to {part.max()}, "
                f"output '{name}' has classes 0 to {n_classes - 1}"
            )
        right += int((found == part).sum())
        seen += count
    if len(labels) - seen >= (data.fixed_batch or 1):
        raise ConfigError(f"there are {len(labels)} labels, and {seen} samples in {data.where}")
    return right / seen


def agreement(
    a: Predictor, b: Predictor, data: CalibrationData, output: str | None = None, *, batch: int = 64
) -> float:
    """Share of samples on which two models name the same class.

    Args:
        a: One model.
        b: The other.
        data: Inputs of both.
        output: The output with the scores; the first where None.
        batch: Samples per run.

    Returns:
        The share, 0..1; for maps of classes the share of positions, averaged over samples.

    Raises:
        ConfigError: The output has no classes.
    """
    name = _output(a, output)
    same = _Agreement()
    for left, right in _pairs(a, b, data, (name,), batch):
        if name in left:
            same.add(left[name], right[name])
    if same.value is None:
        raise ConfigError(f"output '{name}' has no classes to agree on; measure the divergence")
    return same.value


def divergence(
    a: Predictor, b: Predictor, data: CalibrationData, kind: str = "auto", *, batch: int = 64
) -> float:
    """How far the outputs of `b` are from those of `a`.

    Args:
        a: The reference.
        b: The model to judge.
        data: Inputs of both.
        kind: `kl`, `mse` or `auto` (see above).
        batch: Samples per run.

    Returns:
        The figure, 0 for equal outputs; infinite or NaN where `b`'s outputs are.

    Raises:
        ConfigError: The kind is unknown or does not suit an output, or outputs do not match.
    """
    return compare(a, b, data, kind=kind, batch=batch).divergence


def compare(
    a: Predictor,
    b: Predictor,
    data: CalibrationData,
    output: str | None = None,
    *,
    kind: str = "auto",
    batch: int = 64,
) -> Comparison:
    """Agreement and divergence in one pass.

    Args:
        a: The reference.
        b: The model to judge.
        data: Inputs of both.
        output: The output whose classes are compared; the first where None.
        kind: As in `divergence`.
        batch: Samples per run.

    Returns:
        Both figures.

    Raises:
        ConfigError: As in `divergence`; or the models have different outputs.
    """
    if kind not in KINDS:
        raise ConfigError(f"divergence '{kind}' is unknown; use one of {', '.join(KINDS)}")
    name = _output(a, output)
    same = _Agreement()
    gaps = Gaps(kind)
    samples = 0
    for left, right in _pairs(a, b, data, a.output_names, batch):
        if name in left:
            same.add(left[name], right[name])
            samples += len(left[name]) if left[name].ndim else 0
        gaps.add(left, right)
    return Comparison(same.value, gaps.value, samples)


def _pairs(
    a: Predictor, b: Predictor, data: CalibrationData, names: tuple[str, ...], batch: int
) -> Iterator[tuple[Mapping[str, AnyArray], Mapping[str, AnyArray]]]:
    """Outputs of both models, batch by batch, of equal shapes."""
    absent = [name for name in names if name not in b.output_names]
    if absent:
        raise ConfigError(f"the second model has no output '{absent[0]}'")
    for feeds in data.batches(batch):
        left, right = a(feeds), b(feeds)
        shared = [name for name in names if _is_numeric(left, name) and _is_numeric(right, name)]
        for name in shared:
            if left[name].shape != right[name].shape:
                raise ConfigError(
                    f"output '{name}' is {spell(left[name].shape)} in the first model and "
                    f"{spell(right[name].shape)} in the second, so they cannot be compared"
                )
        yield {n: left[n] for n in shared}, {n: right[n] for n in shared}


def _is_numeric(outputs: Mapping[str, AnyArray], name: str) -> bool:
    """Sequences and texts have no distance."""
    return name in outputs and outputs[name].dtype.kind not in "OSU"


def _output(predictor: Predictor, output: str | None) -> str:
    if output is not None and output not in predictor.output_names:
        raise ConfigError(
            f"the model has no output '{output}'; it has {', '.join(predictor.output_names)}"
        )
    return output or predictor.output_names[0]


def _array(outputs: Mapping[str, AnyArray], name: str) -> AnyArray:
    if name not in outputs:
        raise ConfigError(f"output '{name}' is no tensor; name another output")
    return outputs[name]


def _classes(scores: AnyArray, axis: int = 1) -> AnyArray | None:
    """Classes (samples, ...) from scores; None where there are no classes."""
    if scores.ndim == 0:
        return None
    flat = squeezed(scores)
    if flat.dtype.kind in "iub":
        return flat
    if flat.ndim < 2:
        return None
    # bfloat16 and the like come without an argmax of their own
    scored = flat if flat.dtype.kind == "f" else flat.astype(np.float32)
    found: AnyArray = scored.argmax(axis=axis)
    return found


class _Agreement:
    """Mean over samples of the share of equal classes."""

    def __init__(self) -> None:
        self._total = 0.0
        self._samples = 0

    def add(self, left: AnyArray, right: AnyArray) -> None:
        axis = class_axis(left) or 1
        a, b = _classes(left, axis), _classes(right, axis)
        if a is None or b is None or not a.size:
            return
        self._total += float((a == b).reshape(len(a), -1).mean(axis=1).sum())
        self._samples += len(a)

    @property
    def value(self) -> float | None:
        return self._total / self._samples if self._samples else None
