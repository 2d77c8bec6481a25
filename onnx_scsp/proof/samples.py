"""Outputs of given samples, in batches that the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from onnx_scsp.graph.session import InferenceSession, run_session
from onnx_scsp.graph.shapes import InputSpec
from onnx_scsp.proof.structure import Look
from onnx_scsp.types import AnyArray

_LARGEST_BATCH = 64


def in_batches(feeds: Mapping[str, AnyArray], specs: tuple[InputSpec, ...]) -> Look:
    """What looks at the outputs of given inputs.

    Args:
        feeds: Inputs, first axis the sample.
        specs: All inputs, with concrete shapes.

    Returns:
        An open session -> outputs of all samples.
    """
    return partial(_outputs, feeds=feeds, specs=specs)


def _outputs(
    session: InferenceSession,
    feeds: Mapping[str, AnyArray],
    specs: tuple[InputSpec, ...],
) -> dict[str, AnyArray]:
    """Runs all samples through; a model of fixed batch sees as many whole batches as fit."""
    given = [spec for spec in specs if spec.name in feeds]
    sampled = [spec for spec in given if _has_samples(spec, feeds[spec.name])]
    fixed = [spec.shape[0] for spec in sampled if not spec.dynamic[0]]
    size = min(fixed, default=_LARGEST_BATCH)
    count = min((len(feeds[spec.name]) for spec in sampled), default=size)
    starts = range(0, max(count - size + 1, 1) if fixed else count, size)
    names = {spec.name for spec in sampled}
    outputs: list[dict[str, AnyArray]] = []
    for start in starts:
        part = {
            name: array[start : start + size] if name in names else array
            for name, array in feeds.items()
        }
        outputs.append(run_session(session, part))
    return {name: _joined(outputs, name) for name in outputs[0]}


def _has_samples(spec: InputSpec, array: AnyArray) -> bool:
    """Whether axis 0 runs over samples; an input that only fills its fixed shape goes in whole."""
    return array.ndim > 0 and (spec.dynamic[0] or len(array) > spec.shape[0])


def _joined(runs: list[dict[str, AnyArray]], name: str) -> AnyArray:
    """One output over all batches, samples along axis 0."""
    return np.concatenate([np.atleast_1d(run[name]) for run in runs])
