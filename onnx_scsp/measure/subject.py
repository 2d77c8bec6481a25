"""Two models made ready for measuring: read, compared, and with inputs that both take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import random_feeds
from onnx_scsp.graph.shapes import InputSpec, input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.types import AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """Models, and what to run them with.

    Attributes:
        models: The models.
        sources: What the runtime opens: a path, or the serialised model.
        inputs: The inputs, of concrete shapes.
        seed: Seed of their values.
        feeds: Input name -> array, for both.
    """

    models: tuple[Model, Model]
    sources: tuple[Path | bytes, Path | bytes]
    inputs: tuple[InputSpec, ...]
    seed: int
    feeds: Mapping[str, AnyArray]

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Input name -> shape."""
        return {name: tuple(array.shape) for name, array in self.feeds.items()}


def make_subject(
    a: Model | str | os.PathLike[str],
    b: Model | str | os.PathLike[str],
    *,
    batch: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> Subject:
    """Reads two models and makes random inputs.

    Args:
        a: The reference.
        b: The model to compare.
        batch: Size of axis 0 where model and `input_shapes` leave it open.
        input_shapes: Whole shapes of inputs with dynamic axes.
        seed: Seed of the inputs.

    Returns:
        What can be measured.

    Raises:
        ModelError: A model cannot be read.
        ConfigError: Shapes that do not fit, or models whose inputs differ.
    """
    first, second = (m if isinstance(m, Model) else load(m) for m in (a, b))
    specs, others = (_specs(model, input_shapes) for model in (first, second))
    if [(s.name, s.elem_type) for s in specs] != [(s.name, s.elem_type) for s in others]:
        raise ConfigError("the two models have different inputs; they cannot be timed side by side")
    given = input_shapes or {}
    inputs = tuple(s if s.name in given else _filled(s, batch) for s in specs)
    sources = (_source(first), _source(second))
    return Subject((first, second), sources, inputs, seed, random_feeds(inputs, seed))


def _specs(
    model: Model, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> tuple[InputSpec, ...]:
    graph = view(model.proto)
    return input_specs(model, graph, Constants(model, graph), input_shapes)


def _filled(spec: InputSpec, batch: int) -> InputSpec:
    """The batch goes where the file leaves the first axis open."""
    if not spec.shape or not spec.dynamic[0]:
        return spec
    return replace(spec, shape=(batch, *spec.shape[1:]))


def _source(model: Model) -> Path | bytes:
    return model.path if model.path is not None else model.proto.SerializeToString()
