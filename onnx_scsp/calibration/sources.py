"""Opens calibration data: a folder of images, arrays, or a function that yields batches."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.calibration.batches import as_arrays, require_equal_lengths
from onnx_scsp.calibration.data import (
    ArraySamples,
    CalibrationData,
    SampleData,
    Samples,
    StreamData,
    whole_batches,
)
from onnx_scsp.calibration.hooks import load_hook, parameters
from onnx_scsp.calibration.images import ImageSamples, list_images
from onnx_scsp.calibration.preprocess import Preprocess
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.inputs import ModelInput, fit_arrays, model_inputs, open_arrays
from onnx_scsp.types import AnyArray, IntArray

Source = (
    str
    | os.PathLike[str]
    | AnyArray
    | Mapping[str, AnyArray]
    | Callable[..., Iterable[Mapping[str, AnyArray]]]
)
_HOOK = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")


def open_calibration(
    source: Source,
    model: Model,
    *,
    preprocess: Preprocess | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> CalibrationData:
    """Opens calibration data for a model; nothing but names and headers is read yet.

    Args:
        source: A folder of images (at any depth, in order of their names); a `.npz` whose keys are
            the input names; a `.npy` for a model with one input; `module:function`, where the
            function takes nothing or the keyword `model_path` and yields dictionaries input name
            -> array; or such arrays or such a function themselves. Arrays have the sample axis
            first and are taken as preprocessed; a compressed `.npz` is read into memory.
        model: The model that is to read them.
        preprocess: What to do with images; only for a folder of images.
        limit: Use this many samples: a seeded random choice, or the first ones of a function.
        seed: Seed of that choice and of `split`.

    Returns:
        The data.

    Raises:
        ConfigError: The source cannot be read, is empty, or does not fit the model.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} calibration samples is not positive")
    inputs = model_inputs(model)
    if not inputs:
        raise ConfigError("the model has no inputs, so there is nothing to calibrate with")
    fixed_batch = _fixed_batch(inputs)
    where = str(source) if isinstance(source, str | os.PathLike) else "the calibration data"
    if isinstance(source, str | os.PathLike):
        source = _resolved(source)
    if isinstance(source, Path) and source.is_dir():
        images = _open_images(source, inputs, preprocess or Preprocess())
        return _choose(images, where, fixed_batch, limit, seed)
    if preprocess is not None:
        raise ConfigError(f"preprocessing is for a folder of images, and {where} is none")
    if callable(source):
        return StreamData(_producer(source, model, where), inputs, where, fixed_batch, seed, limit)
    arrays = _open_array_samples(source, inputs, where)
    return _choose(arrays, where, fixed_batch, limit, seed)


def _resolved(source: str | os.PathLike[str]) -> Path | Callable[..., Any]:
    """A path that exists, or the function that the text names."""
    if Path(source).exists():
        return Path(source)
    if isinstance(source, str) and _HOOK.fullmatch(source):
        return load_hook(source)
    raise ConfigError(f"{source}: no such file or folder, and not module:function")


def _open_images(
    folder: Path, inputs: tuple[ModelInput, ...], preprocess: Preprocess
) -> ImageSamples:
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise ConfigError(
            f"{folder}: images feed one input, the model has {names}; "
            "give arrays as .npz, or module:function"
        )
    recipe = preprocess.bind(inputs[0])
    return ImageSamples(folder, list_images(folder), inputs[0].name, recipe)


def _open_array_samples(
    source: Path | AnyArray | Mapping[str, AnyArray], inputs: tuple[ModelInput, ...], where: str
) -> ArraySamples:
    if isinstance(source, Path):
        if source.suffix.lower() not in (".npy", ".npz"):
            raise ConfigError(
                f"{where} is no calibration data; give a folder of images, .npy, .npz "
                "or module:function"
            )
        arrays = open_arrays(source, inputs)
    elif isinstance(source, Mapping):
        arrays = fit_arrays(as_arrays(source), inputs, where)
    else:
        arrays = fit_arrays(np.asarray(source), inputs, where)
    require_equal_lengths(arrays, where)
    return ArraySamples(arrays, inputs, where)


def _choose(
    samples: Samples, where: str, fixed_batch: int | None, limit: int | None, seed: int
) -> SampleData:
    count = len(samples)
    if not count:
        raise ConfigError(f"{where} holds no samples")
    indices: IntArray = np.arange(count)
    if limit is not None and limit < count:
        indices = np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
    return SampleData(samples, whole_batches(indices, fixed_batch, where), where, fixed_batch, seed)


def _producer(
    function: Callable[..., Any], model: Model, where: str
) -> Callable[[], Iterable[Mapping[str, AnyArray]]]:
    found = parameters(function)
    needed = [name for name, is_needed in found.items() if is_needed and name != "model_path"]
    if needed:
        raise ConfigError(
            f"{where} wants the argument '{needed[0]}'; it may take 'model_path' or nothing"
        )
    if "model_path" not in found:
        return function
    if model.path is None:
        raise ConfigError(f"{where} wants 'model_path', and the model has no file")
    path = str(model.path)
    return lambda: function(model_path=path)


def _fixed_batch(inputs: tuple[ModelInput, ...]) -> int | None:
    for item in inputs:
        if not item.sizes:
            raise ConfigError(f"input '{item.name}' has no axes in the model, so none for samples")
    fixed = {item.name: item.sizes[0] for item in inputs if item.sizes[0]}
    if len(set(fixed.values())) > 1:
        sizes = ", ".join(f"{name} {size}" for name, size in fixed.items())
        raise ConfigError(f"the model's inputs fix different batch sizes ({sizes})")
    return next(iter(fixed.values()), None)
