"""A lifted model for those who go on in PyTorch themselves: a program, or a state dict.

Both come with a text file beside them that says how to load them and what the inputs are. A program
is read back and run before it takes its final name.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onnx_scsp.errors import (
    ConfigError,
    MissingExtraError,
    UnsupportedError,
    VerifyError,
)
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import check_output, write_bytes, write_text
from onnx_scsp.graph.session import random_feeds
from onnx_scsp.graph.shapes import InputSpec, input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.retrain.back import relative_difference, torch_divergence
from onnx_scsp.retrain.lift import Lifted, lift, to_tensor
from onnx_scsp.retrain.npz import npz_bytes

_EXAMPLES = 2
"""Samples of the example; a size of 1 would be taken for a constant."""

_TOLERANCE = 1e-5
_REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError)
"""What the tracer raises; it has a class for each of its stages."""

ANY = "any"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: The program or the state dict.
        note: The text beside it.
        batch: `any`, or the only size it takes.
        divergence: Largest relative difference of the outputs to onnxruntime on random inputs.
        tensors: Stored constants in it.
    """

    path: Path
    note: Path
    batch: str
    divergence: float
    tensors: int


def export_program(
    model: Model, path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Exported:
    """Writes a `torch.export` program, its batch size open where the model allows it.

    Args:
        model: The model.
        path: Where to write it, `.pt2`.
        shapes: Input name -> shape, for inputs with open axes; these become fixed.

    Returns:
        What was written.

    Raises:
        UnsupportedError: An operator has no PyTorch function, or the program cannot be traced.
        OutputError: The output cannot be written.
        VerifyError: The program does not compute what the model does.
    """
    check_output(model, path)
    lifted = lift(model)
    specs = _specs(model, shapes)
    program = _open_program(lifted, specs) or _fixed_program(lifted, specs)
    _check(program, lifted, specs)
    divergence = torch_divergence(model, lifted, random_feeds(specs, seed=0))
    write_bytes(program.data, path)
    note = _note(path, _PROGRAM_NOTE, lifted, program.inputs, program.batch)
    return Exported(path, note, program.batch, divergence, len(lifted.constants))


def export_state_dict(
    model: Model, path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Exported:
    """Writes the stored constants under their names in the file, as `.safetensors` or `.npz`.

    Args:
        model: The model.
        path: Where to write it; the suffix says how.
        shapes: Input name -> shape, for inputs with open axes.

    Returns:
        What was written.

    Raises:
        ConfigError: Another suffix.
        MissingExtraError: `.safetensors` was asked for and the package is not installed.
        OutputError: The output cannot be written.
    """
    check_output(model, path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ConfigError(f"{path}: a state dict is written as .safetensors or .npz")
    lifted = lift(model)
    tensors = {name: tensor.detach().contiguous() for name, tensor in lifted.constants.items()}
    specs = _specs(model, shapes)
    divergence = torch_divergence(model, lifted, random_feeds(specs, seed=0))
    is_safe = path.suffix == ".safetensors"
    write_bytes(_safetensors(tensors) if is_safe else _npz(tensors), path)
    batch = ANY if lifted.batch.free else str(lifted.batch.size)
    inputs = _example(lifted, specs, lifted.batch.size)
    text = _SAFETENSORS_NOTE if path.suffix == ".safetensors" else _NPZ_NOTE
    note = _note(path, text, lifted, inputs, batch)
    return Exported(path, note, batch, divergence, len(tensors))


def _specs(model: Model, shapes: Mapping[str, tuple[int, ...]] | None) -> tuple[InputSpec, ...]:
    graph = view(model.proto)
    return input_specs(model, graph, Constants(model, graph), shapes)


def _example(lifted: Lifted, specs: tuple[InputSpec, ...], samples: int) -> dict[str, Tensor]:
    """Random inputs, several samples of each that counts them."""
    parts = [random_feeds(specs, seed) for seed in range(-(-samples // lifted.batch.size))]
    inputs = {}
    for spec in specs:
        arrays = [part[spec.name] for part in parts]
        whole = np.concatenate(arrays) if spec.name in lifted.batch.inputs else arrays[0]
        inputs[spec.name] = to_tensor(whole)
    return inputs


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """A traced program: its bytes, the inputs it was traced on, the batch sizes it takes."""

    data: bytes
    inputs: Mapping[str, Tensor]
    batch: str


def _open_program(lifted: Lifted, specs: tuple[InputSpec, ...]) -> _Program | None:
    """The program with an open batch size, None where the model or the tracer fixes it."""
    if not lifted.batch.free:
        return None
    inputs = _example(lifted, specs, _EXAMPLES)
    batch = torch.export.Dim("batch")
    dims = tuple({0: batch} if name in lifted.batch.inputs else {} for name in lifted.input_names)
    try:
        return _Program(_traced(lifted, inputs, {"inputs": dims}), inputs, ANY)
    except _REFUSALS:
        return None  # a fixed size is tried instead, and said so


def _fixed_program(lifted: Lifted, specs: tuple[InputSpec, ...]) -> _Program:
    """The program at the batch size of the file."""
    inputs = _example(lifted, specs, lifted.batch.size)
    try:
        return _Program(_traced(lifted, inputs, None), inputs, str(lifted.batch.size))
    except _REFUSALS as error:
        raise UnsupportedError(
            f"torch.export cannot trace the model ({_first_sentence(error)}); "
            "try --state-dict instead"
        ) from error


def _traced(lifted: Lifted, inputs: Mapping[str, Tensor], dims: dict[str, Any] | None) -> bytes:
    ordered = tuple(inputs[name] for name in lifted.input_names)
    with torch.no_grad():
        program = torch.export.export(lifted, ordered, dynamic_shapes=dims, strict=False)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _check(program: _Program, lifted: Lifted, specs: tuple[InputSpec, ...]) -> None:
    """The program as written against the module, at another batch size than the traced one."""
    module = torch.export.load(io.BytesIO(program.data)).module()
    inputs: Mapping[str, Tensor] = program.inputs
    if program.batch == ANY:
        inputs = _example(lifted, specs, _EXAMPLES + lifted.batch.size)
    ordered = [inputs[name] for name in lifted.input_names]
    with torch.no_grad():
        found, expected = module(*ordered), lifted(*ordered)
    for name, a, b in zip(lifted.output_names, found, expected, strict=True):
        apart = relative_difference(a.numpy(), b.numpy())
        if apart > _TOLERANCE:
            raise VerifyError(f"the program's output '{name}' is off by {apart:.1e}; not written")


def _safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    if find_spec("safetensors") is None:
        raise MissingExtraError(
            ".safetensors needs the package safetensors; install it with: "
            "pip install 'onnx-scsp[retrain]', or write .npz"
        )
    from safetensors.torch import save

    return bytes(save({name: tensor.clone() for name, tensor in tensors.items()}))


def _npz(tensors: Mapping[str, Tensor]) -> bytes:
    return npz_bytes(
        {
            name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            for name, tensor in tensors.items()
        }
    )


_PROGRAM_NOTE = """\
A torch.export program. Load it with

    import torch
    module = torch.export.load("{file}").module()
    outputs = module(*inputs)

`module.state_dict()` holds the weights; key `store.NAME` is tensor NAME of the ONNX file, with `.`
written as `%2E` and `%` as `%25` (urllib.parse.unquote undoes it). The program is traced in
evaluation mode.
"""

_SAFETENSORS_NOTE = """\
The tensors of an ONNX file, under their names there. Load them with

    from safetensors.torch import load_file
    tensors = load_file("{file}")

To go on with the network itself:

    from onnx_scsp.graph.load import load
    from onnx_scsp.retrain.lift import lift
from onnx_scsp.retrain.npz import npz_bytes
    module = lift(load("{model}"))      # a torch.nn.Module; module.constants has the same names
"""

_NPZ_NOTE = _SAFETENSORS_NOTE.replace(
    '    from safetensors.torch import load_file\n    tensors = load_file("{file}")\n',
    "    import numpy, torch\n    tensors = {{name: torch.from_numpy(array) for name, array in "
    'numpy.load("{file}").items()}}\n',
)


def _note(path: Path, text: str, lifted: Lifted, inputs: Mapping[str, Tensor], batch: str) -> Path:
    note = path.with_name(f"{path.name}.txt")
    source = lifted.program.model.path
    lines = [text.format(file=path.name, model=source.name if source else "model.onnx")]
    for name in lifted.input_names:
        shape = list(inputs[name].shape)
        sizes = [str(size) for size in shape]
        if name in lifted.batch.inputs:
            sizes[0] = "N" if batch == ANY else batch
        lines.append(f"input {name}: {' x '.join(sizes)}, {inputs[name].dtype}")
    lines.append(f"outputs: {', '.join(lifted.output_names)}")
    reason = "" if batch == ANY else lifted.batch.reason or "the tracer fixes it"
    lines.append(f"batch size: {batch}" + (f" ({reason})" if reason else ""))
    write_text("\n".join(lines) + "\n", note)
    return note
