"""A model as a torch module of its own: the graph is walked node by node on the operator table.

Libraries that translate ONNX into torch.fx or into modules exist. An executor of our own was chosen
because training and writing back need what they do not give: every parameter under the name of
its initializer, in its shape and orientation; statistics that run, with ONNX's momentum; a batch
size that is free where the exporter baked it; every intermediate value by its name. It is
one small function per operator, each tested against onnxruntime.

`state_dict` has one key per stored constant: `store.` and its name, percent-encoded where torch
forbids it (`names.decode` undoes it). Where several batch normalisations read one stored
statistic through Identity nodes, each has a buffer of its own under the name that it reads,
`running.` and that name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.model import Model
from onnx_scsp.retrain.lift.batch import Batch, free_batch, repaired
from onnx_scsp.retrain.lift.names import decode, encode
from onnx_scsp.retrain.lift.op import DTYPES, to_tensor
from onnx_scsp.retrain.lift.program import Program, Step, Value, compile_model, missing
from onnx_scsp.types import AnyArray


class _Store(nn.Module):
    """Parameters and buffers by ONNX name."""

    def put(self, name: str, tensor: Tensor, *, trained: bool, persistent: bool = True) -> None:
        if trained:
            self.register_parameter(encode(name), nn.Parameter(tensor))
        else:
            self.register_buffer(encode(name), tensor, persistent=persistent)

    def find(self, name: str) -> Tensor | None:
        key = encode(name)
        found = self._parameters.get(key)
        return found if found is not None else self._buffers.get(key)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        for key, tensor in (*self._parameters.items(), *self._buffers.items()):
            yield decode(key), tensor


class Lifted(nn.Module):
    """An ONNX model whose weights are torch parameters.

    Attributes:
        program: The compiled model.
        batch: Which batch sizes it takes, and why not others.
        input_names: Graph inputs, in order.
        output_names: Graph outputs, in order.
        batch_statistics: Whether batch normalisation follows `train()`; switched off, it uses the
            running statistics always.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.input_names = program.graph.inputs
        self.output_names = program.graph.outputs
        self.batch_statistics = True
        self.store, self.running, self.folded = _Store(), _Store(), _Store()
        self._fill()
        self.batch: Batch = free_batch(program, self._constant)

    def _fill(self) -> None:
        program = self.program
        for name in program.constants.names():
            if _is_numeric(program, name):
                tensor = to_tensor(program.constants.array(name))
                self.store.put(name, tensor, trained=name in program.roles.parameters)
        for name, array in program.folded.items():
            self.folded.put(name, to_tensor(array), trained=False, persistent=False)
        for name in program.aliases:
            array = program.constants.array(name)
            self.running.put(name, to_tensor(array), trained=False)

    @property
    def constants(self) -> Mapping[str, Tensor]:
        """Stored constant -> its Parameter or buffer, in ONNX's shape and orientation."""
        return dict(self.store.items())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Runs the model.

        Args:
            *inputs: One tensor per graph input, in order.

        Returns:
            One tensor per graph output, in order.

        Raises:
            ModelError: The number of inputs, or a batch size that the model cannot take.
        """
        if len(inputs) != len(self.input_names):
            raise ModelError(
                f"the model has {len(self.input_names)} inputs ({', '.join(self.input_names)}), "
                f"{len(inputs)} were given"
            )
        results = self.run(dict(zip(self.input_names, inputs, strict=True)))
        return tuple(results[name] for name in self.output_names)

    def run(self, inputs: Mapping[str, Tensor], taps: Collection[str] = ()) -> dict[str, Tensor]:
        """Runs the model and keeps some values on the way.

        Args:
            inputs: Graph input -> tensor.
            taps: Names of ONNX values wanted besides the outputs.

        Returns:
            Outputs and taps by name.

        Raises:
            ModelError: An input is missing, a tap is no value of the model, or the batch size is
                not free.
        """
        absent = [name for name in self.input_names if name not in inputs]
        if absent:
            raise ModelError(f"input '{absent[0]}' is missing")
        samples = self.batch.samples(inputs)
        device = next(iter(inputs.values())).device if inputs else None
        values: dict[str, Value] = {name: inputs[name] for name in self.input_names}
        wanted = {*self.output_names, *taps}
        kept: dict[str, Value] = {name: values[name] for name in wanted if name in values}

        def tensor_of(name: str, array: AnyArray) -> Tensor:
            found = self._constant(name) if name not in values else None
            return to_tensor(array, device) if found is None else found

        for index, step in enumerate(self.program.steps):
            results = self._results(index, step, values, tensor_of, device, samples)
            values.update(zip(step.node.outputs, results, strict=False))
            for name in wanted.intersection(step.node.outputs):
                kept[name] = values[name]
            for name in step.forget:
                values.pop(name, None)
        kept |= {name: self._value(name, values) for name in wanted - set(kept)}
        return {name: self._finished(name, value, tensor_of) for name, value in kept.items()}

    def _finished(self, name: str, value: Value, tensor_of: Any) -> Tensor:
        """A result as a tensor; coded integers travel as floating-point numbers up to here."""
        tensor = tensor_of(name, value) if isinstance(value, np.ndarray) else value
        declared = self.program.declared.get(name)
        if declared is None or declared.is_floating_point or not tensor.is_floating_point():
            return tensor
        return tensor.to(declared)

    def _results(
        self,
        index: int,
        step: Step,
        values: dict[str, Value],
        tensor_of: Any,
        device: torch.device | None,
        samples: Any,
    ) -> tuple[Value, ...]:
        """Outputs of one node."""
        operands = [self._value(name, values) if name else None for name in step.node.inputs]
        for place in step.entry.statistics:
            own = self.running.find(step.node.inputs[place])
            operands[place] = operands[place] if own is None else own
        repairs = self.batch.repairs.get(index, ())
        if repairs:
            operands = repaired(repairs, operands, samples, self.batch.size)
        training = self.training and (
            self.batch_statistics or step.node.op_type != "BatchNormalization"
        )
        return step(operands, tensor_of, device, training=training)

    def _value(self, name: str, values: Mapping[str, Value]) -> Value:
        """A value by name: computed, known on the host, or stored."""
        if name in values:
            return values[name]
        if name in self.program.host:
            return self.program.host[name]
        found = self._constant(name)
        if found is None:
            raise ModelError(f"'{name}' is no value that the model computes for its outputs")
        return found

    def _constant(self, name: str) -> Tensor | None:
        found = self.store.find(name)
        return self.folded.find(name) if found is None else found


def _is_numeric(program: Program, name: str) -> bool:
    constants = program.constants
    return constants.is_generated(name) or constants.elem_type(name) in DTYPES


def lift(model: Model) -> Lifted:
    """Makes a torch module of a model, in `eval()` mode.

    Args:
        model: The model as loaded.

    Returns:
        The module.

    Raises:
        UnsupportedError: An operator, or a form of one, has no PyTorch function.
    """
    lifted = Lifted(compile_model(model))
    lifted.eval()
    return lifted


def missing_operators(model: Model) -> tuple[str, ...]:
    """Operators that keep a model from being lifted, sorted; nothing is run."""
    return missing(model)
