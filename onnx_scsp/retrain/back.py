"""Trained weights back into the ONNX file that they came from.

Every stored constant whose values changed is overwritten in place: name, type, position, metadata
and everything else of the file stay bit for bit. A constant whose values did not change keeps its
bytes, so a model that was lifted and not trained comes back as the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import torch
from torch import Tensor

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import Patch, apply_patch
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.graph.view import GraphView, view
from onnx_scsp.retrain.lift import Lifted, to_tensor
from onnx_scsp.types import AnyArray


def write_back(model: Model, lifted: Lifted) -> Model:
    """Writes a lifted model's weights into the initializers that they came from.

    Args:
        model: The model that was lifted.
        lifted: The trained module.

    Returns:
        The model with its new weights; `model` itself where nothing changed.

    Raises:
        ModelError: The module was lifted from another model, or a weight is not finite.
    """
    graph = view(model.proto)
    constants = Constants(model, graph)
    _check_origin(constants, lifted)
    tensors: dict[str, AnyArray] = {}
    for name, tensor in lifted.constants.items():
        if name in constants:
            array = _changed(name, tensor, constants)
            if array is not None:
                tensors[name] = array
    patch = Patch(tensors=tensors, copies=_private_statistics(graph, constants, lifted))
    if not patch.tensors and not patch.copies:
        return model
    return with_proto(model, apply_patch(model, constants, patch))


def with_proto(model: Model, proto: onnx.ModelProto) -> Model:
    """A model with another proto whose untouched tensors are still in the same data files."""
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True))
    if model.external_files:
        digest.update(model.sha256.encode())
    return replace(model, proto=proto, sha256=digest.hexdigest(), is_stored=False)


def _check_origin(constants: Constants, lifted: Lifted) -> None:
    found = lifted.constants
    for name in sorted(lifted.program.roles.parameters):
        if name not in constants:
            raise ModelError(f"tensor '{name}' of the trained module is not in this model")
        if tuple(found[name].shape) != constants.shape(name):
            raise ModelError(
                f"tensor '{name}' has shape {tuple(found[name].shape)} in the trained module and "
                f"{constants.shape(name)} in the model"
            )


def _changed(name: str, tensor: Tensor, constants: Constants) -> AnyArray | None:
    """The new values of a stored constant in its own type, None where they are the old ones."""
    before = constants.array(name)
    old = to_tensor(before)
    new = tensor.detach().cpu().to(old.dtype)
    if new.shape == old.shape and _bits(new) == _bits(old):
        return None
    if new.is_floating_point() and not bool(torch.isfinite(new).all()):
        raise ModelError(f"tensor '{name}' is no longer finite; train with a smaller step")
    return _array(new, before.dtype)


def _bits(tensor: Tensor) -> bytes:
    """Compared as bytes: NaNs are equal to themselves, and -0 is not 0."""
    return _array(tensor, np.dtype(np.int16)).tobytes()


def _array(tensor: Tensor, dtype: np.dtype) -> AnyArray:
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.contiguous().view(torch.int16).numpy().view(dtype))
    return np.asarray(tensor.contiguous().numpy())


def _private_statistics(
    graph: GraphView, constants: Constants, lifted: Lifted
) -> dict[tuple[int, int], AnyArray]:
    """Running statistics that several nodes share in the file, where they have come apart."""
    own = dict(lifted.running.items())
    copies = {}
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            if name in own and node.op_type == "BatchNormalization" and place >= 3:
                array = _changed(name, own[name], constants)
                if array is not None:
                    copies[node.index, place] = array
    return copies


def torch_divergence(model: Model, lifted: Lifted, inputs: Mapping[str, AnyArray]) -> float:
    """How far torch and onnxruntime are apart on the same inputs.

    Args:
        model: The model, as onnxruntime runs it.
        lifted: The module; it is run in `eval()` mode.
        inputs: Input name -> array.

    Returns:
        The largest difference of any output over that output's largest magnitude.

    Raises:
        ModelError: onnxruntime cannot run the model on these inputs.
    """
    with open_variant(model.proto, model) as session:
        expected = run_session(session, inputs)
    results = evaluate(lifted, inputs)
    return max(
        (relative_difference(results[name], array) for name, array in expected.items()),
        default=0.0,
    )


def evaluate(lifted: Lifted, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Outputs of a module in `eval()` mode, without gradients, as arrays."""
    device = next(iter(lifted.constants.values()), torch.zeros(0)).device
    was_training = lifted.training
    lifted.eval()
    try:
        with torch.no_grad():
            results = lifted.run({name: to_tensor(a, device) for name, a in inputs.items()})
    finally:
        lifted.train(was_training)
    return {
        name: _array(value.cpu(), np.dtype(np.int16))
        if value.dtype == torch.bfloat16
        else np.asarray(value.cpu().numpy())
        for name, value in results.items()
    }


def relative_difference(found: AnyArray, expected: AnyArray) -> float:
    """Largest difference over the largest expected magnitude; infinite where shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    a, b = found.astype(np.float64), expected.astype(np.float64)
    both = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(both, 0.0, np.abs(a - b))
    scale = max(float(np.abs(b[np.isfinite(b)]).max(initial=0.0)), 1e-30)
    worst = float(apart.max()) / scale
    return worst if np.isfinite(worst) else float("inf")
