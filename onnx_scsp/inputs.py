"""Inputs that a user brings: arrays in .npy and .npz files, checked against the model."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import view
from onnx_scsp.types import AnyArray

_ZIP_HEADER = struct.Struct("<26xHH")
"""A member's own header in a zip file: only the lengths of its name and extra field matter."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the file says about one graph input.

    Attributes:
        name: Input name.
        sizes: Axis lengths, 0 where the file leaves one open.
        dtype: Element type.
    """

    name: str
    sizes: tuple[int, ...]
    dtype: np.dtype[Any]


def model_inputs(model: Model) -> tuple[ModelInput, ...]:
    """The inputs that a caller has to feed, in file order (initializers are left out)."""
    by_name = {value.name: value.type.tensor_type for value in model.proto.graph.input}
    return tuple(
        ModelInput(
            name,
            tuple(max(dim.dim_value, 0) for dim in by_name[name].shape.dim),
            np.dtype(onnx.helper.tensor_dtype_to_np_dtype(by_name[name].elem_type)),
        )
        for name in view(model.proto).inputs
    )


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
    inputs = model_inputs(model)
    arrays = open_arrays(path, inputs)
    return {item.name: np.array(arrays[item.name], item.dtype) for item in inputs}


def open_arrays(
    path: str | os.PathLike[str], inputs: tuple[ModelInput, ...]
) -> dict[str, AnyArray]:
    """Opens preprocessed inputs without reading them: arrays stay on disk where that is possible.

    Args:
        path: `.npz` whose keys are the input names, or `.npy` for a model with one input. A
            compressed `.npz` is read into memory.
        inputs: What the model takes.

    Returns:
        Input name -> array as stored, first axis the sample.

    Raises:
        ConfigError: The file cannot be read, or names and shapes do not fit.
    """
    file = Path(path)
    try:
        found = _open(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{file} cannot be read as .npy or .npz") from error
    return fit_arrays(found, inputs, str(file))


def fit_arrays(
    found: AnyArray | Mapping[str, AnyArray], inputs: tuple[ModelInput, ...], where: str
) -> dict[str, AnyArray]:
    """Checks that arrays are what the model takes, apart from the length of the first axis.

    Args:
        found: Arrays by input name, or the array of the only input.
        inputs: What the model takes.
        where: Where the arrays come from, for messages.

    Returns:
        Input name -> array, in the model's order.

    Raises:
        ConfigError: Names, shapes or types do not fit.
    """
    if isinstance(found, np.ndarray):
        if len(inputs) != 1:
            raise ConfigError(f"{where} holds one array, the model has inputs {_names(inputs)}")
        found = {inputs[0].name: found}
    if set(found) != {item.name for item in inputs}:
        raise ConfigError(
            f"{where} holds {', '.join(sorted(found)) or 'nothing'}; "
            f"the model's inputs are {_names(inputs)}"
        )
    for item in inputs:
        _check(found[item.name], item, where)
    return {item.name: found[item.name] for item in inputs}


def _check(array: AnyArray, item: ModelInput, where: str) -> None:
    fits = array.ndim == len(item.sizes) and all(
        want <= 0 or want == have
        for want, have in zip(item.sizes[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise ConfigError(
            f"{where}: input '{item.name}' is {'x'.join(map(str, array.shape))}, "
            f"the model wants {spell(item.sizes)}"
        )
    if array.dtype.kind not in "biuf" and array.dtype != item.dtype:
        raise ConfigError(
            f"{where}: input '{item.name}' is of type {array.dtype}, the model wants {item.dtype}"
        )


def spell(sizes: Iterable[int]) -> str:
    """`1x3x?x?` for messages; 0 is an open axis."""
    return "x".join(str(size) if size > 0 else "?" for size in sizes)


def _names(inputs: tuple[ModelInput, ...]) -> str:
    return ", ".join(item.name for item in inputs)


def _open(file: Path) -> AnyArray | dict[str, AnyArray]:
    with file.open("rb") as stream:
        is_zip = stream.read(2) == b"PK"
    if not is_zip:
        array: AnyArray = np.load(file, mmap_mode="r", allow_pickle=False)
        return array
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    mapped = {info.filename.removesuffix(".npy"): _mapped(file, info) for info in members}
    with np.load(file, allow_pickle=False) as loaded:
        return {
            name: array if array is not None else loaded[name] for name, array in mapped.items()
        }


def _mapped(file: Path, info: zipfile.ZipInfo) -> AnyArray | None:
    """A member that is stored as it is lies in the .npz like an .npy file; others give None."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or not info.file_size:
        return None
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        name_bytes, extra_bytes = _ZIP_HEADER.unpack(stream.read(_ZIP_HEADER.size))
        stream.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            return None
        offset = stream.tell()
    if dtype.hasobject or 0 in shape:
        return None
    return np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")
