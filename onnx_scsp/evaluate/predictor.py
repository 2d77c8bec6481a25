"""A model that answers: input arrays in, output arrays out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import InferenceSession, open_session, run_session
from onnx_scsp.inputs import model_inputs
from onnx_scsp.types import AnyArray


class Predictor:
    """Runs a model in onnxruntime, on batches of any size.

    Attributes:
        path: The model's file, or None for a model in memory.
        session: The open onnxruntime session.
        input_names: Inputs to feed, in file order.
        output_names: Outputs, in file order.
        fixed_batch: The batch size that the model fixes, or None; other sizes are run in pieces,
            the last one filled up with its last sample.
    """

    __slots__ = ("fixed_batch", "input_names", "output_names", "path", "session")

    def __init__(self, source: Model | str | os.PathLike[str], *, threads: int = 1) -> None:
        """Opens the model.

        Args:
            source: A loaded model or its file.
            threads: Threads of the runtime.

        Raises:
            ModelError: The file cannot be read, or the runtime refuses it.
        """
        model = source if isinstance(source, Model) else load(source)
        inputs = model_inputs(model)
        fixed = {item.sizes[0] for item in inputs if item.sizes} - {0}
        self.path: Path | None = model.path
        self.session: InferenceSession = open_session(
            model.path if model.path is not None else model.proto.SerializeToString(),
            threads=threads,
        )
        self.input_names: tuple[str, ...] = tuple(item.name for item in inputs)
        self.output_names: tuple[str, ...] = tuple(o.name for o in self.session.get_outputs())
        self.fixed_batch: int | None = fixed.pop() if len(fixed) == 1 else None

    def __call__(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Runs the model.

        Args:
            feeds: Input name -> array (samples, ...).

        Returns:
            Output name -> array; outputs that are no tensors are left out.

        Raises:
            ConfigError: Inputs are missing, or an output cannot be put together from pieces.
            ModelError: The run fails.
        """
        missing = [name for name in self.input_names if name not in feeds]
        if missing:
            raise ConfigError(
                f"input '{missing[0]}' is missing; the model takes {', '.join(self.input_names)}"
            )
        arrays = {name: np.asarray(feeds[name]) for name in self.input_names}
        size = self.fixed_batch
        counts = {len(array) for array in arrays.values() if array.ndim}
        if size is None or counts <= {size}:
            return run_session(self.session, arrays)
        if len(counts) > 1:
            raise ConfigError(f"inputs have different numbers of samples {sorted(counts)}")
        return self._in_pieces(arrays, counts.pop(), size)

    def _in_pieces(
        self, arrays: Mapping[str, AnyArray], count: int, size: int
    ) -> dict[str, AnyArray]:
        if not count:
            raise ConfigError("a batch without samples cannot be run")
        results = []
        for start in range(0, count, size):
            index = np.minimum(np.arange(start, start + size), count - 1)
            results.append(
                run_session(self.session, {name: array[index] for name, array in arrays.items()})
            )
        return {name: _merged(name, [r[name] for r in results], count, size) for name in results[0]}


def _merged(name: str, pieces: list[AnyArray], count: int, size: int) -> AnyArray:
    """Joins an output of `size` samples per piece (or a multiple of rows) and drops the filling."""
    if any(piece.ndim == 0 or not len(piece) or len(piece) % size for piece in pieces):
        raise ConfigError(
            f"output '{name}' has no sample axis, so the model runs batches of {size} only"
        )
    rows_per_sample = len(pieces[0]) // size
    joined: AnyArray = np.concatenate(pieces)
    return joined[: count * rows_per_sample]
