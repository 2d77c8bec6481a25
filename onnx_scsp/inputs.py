"""Inputs that a user brings: arrays in .npy and .npz files, checked against the model."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import onnx

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import view
from onnx_scsp.types import AnyArray


def read_inputs(path: str | os.PathLike[str], model: Model) -> dict[str, AnyArray]:
    """Reads preprocessed inputs, first axis the sample.

    Args:
        path: `.npz` whose keys are the input names, or `.npy` for a model with one input.
        model: The model they are meant for.

    Returns:
        Input name -> array of the model's type.

    Raises:
        ConfigError: The file cannot be read, or names and shapes do not fit.
    """
    file = Path(path)
    names = view(model.proto).inputs
    try:
        loaded = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} cannot be read as .npy or .npz") from error
    if isinstance(loaded, np.ndarray):
        if len(names) != 1:
            raise ConfigError(f"{file} holds one array, the model has inputs {', '.join(names)}")
        arrays = {names[0]: loaded}
    else:
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    if set(arrays) != set(names):
        raise ConfigError(
            f"{file} holds {', '.join(sorted(arrays))}; the model's inputs are {', '.join(names)}"
        )
    return {name: _fit(arrays[name], name, model, file) for name in names}


def _fit(array: AnyArray, name: str, model: Model, file: Path) -> AnyArray:
    value = next(v for v in model.proto.graph.input if v.name == name)
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    fits = array.ndim == len(dims) and all(
        want <= 0 or want == have for want, have in zip(dims[1:], array.shape[1:], strict=True)
    )
    if not fits:
        wanted = "x".join(str(size) if size > 0 else "?" for size in dims)
        found = "x".join(str(size) for size in array.shape)
        raise ConfigError(f"{file}: input '{name}' is {found}, the model wants {wanted}")
    return array.astype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
