"""A working copy of a model whose constants can be overwritten, addressed as the nodes use them."""

from __future__ import annotations

import numpy as np
import onnx

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import overwrite
from onnx_scsp.observe.layers import Linear, standing_bias
from onnx_scsp.types import AnyArray, FloatArray


class WorkingCopy:
    """A proto and its stored constants.

    Attributes:
        proto: The copy; whatever was set is in it.
        changed: Names of the constants that were set, with their present values.
    """

    def __init__(self, model: Model, constants: Constants) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(model.proto)
        self.changed: dict[str, AnyArray] = {}
        self._constants = constants

    def get(self, name: str) -> AnyArray:
        """Present values of a stored constant."""
        changed = self.changed.get(name)
        return self._constants.array(name) if changed is None else changed

    def set(self, name: str, array: AnyArray) -> None:
        """Overwrites a stored constant; its type and shape stay."""
        old = self._constants.array(name)
        fresh = np.asarray(array).reshape(old.shape).astype(old.dtype)
        overwrite(self.proto, name, fresh)
        self.changed[name] = fresh

    def matrix(self, layer: Linear) -> FloatArray:
        """A layer's present weight as float64 (G, D, O)."""
        source = self._constants.source(layer.weight)
        stored = self.get(source.name)
        kept = [axis for axis in source.axes if axis >= 0]
        return layer.to_matrix(np.transpose(stored, kept).reshape(layer.shape))

    def set_matrix(self, layer: Linear, matrix: FloatArray) -> None:
        """Writes a layer's weight back to where it is stored."""
        source = self._constants.source(layer.weight)
        kept = [axis for axis in source.axes if axis >= 0]
        shape = self._constants.shape(source.name)
        array = layer.from_matrix(matrix).reshape([shape[axis] for axis in kept])
        self.set(source.name, np.transpose(array, np.argsort(kept)))

    def bias(self, layer: Linear) -> FloatArray:
        """What is added to a layer's outputs, float64 (outputs,); zeros where that is not known."""
        if not layer.bias:
            standing = standing_bias(layer, self._constants)
            return np.zeros(layer.outputs) if standing is None else standing
        return layer.bias_sign * np.asarray(self.get(layer.bias), np.float64).reshape(-1)

    def set_bias(self, layer: Linear, bias: FloatArray) -> None:
        """Writes a layer's bias back, into its normalisation's mean where it has no own one."""
        self.set(layer.bias, layer.bias_sign * bias)
