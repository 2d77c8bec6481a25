"""A patch on a model proto: the only way in which this package changes a graph.

What a patch does not name is copied bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_scsp.errors import InternalError
from onnx_scsp.graph.apart import Variant, put, variant_of
from onnx_scsp.graph.bodies import forget_sizes
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.fields import (
    all_names,
    copy_without,
    fill,
    is_uniform,
    names_read,
    set_attribute,
    set_constant,
    set_dims,
    set_filling,
)
from onnx_scsp.graph.model import Model
from onnx_scsp.types import AnyArray, BoolArray, IntArray

Fill = Callable[[onnx.TensorProto, AnyArray], None]
"""Gives an initializer its new values."""


@dataclass(frozen=True, slots=True, eq=False)
class Gather:
    """Takes entries of one axis of a value.

    Attributes:
        source: The value.
        axis: The axis.
        indices: int64, which entries, in order.
    """

    source: str
    axis: int
    indices: IntArray


class Lazy(Mapping[str, AnyArray]):
    """Arrays that are made when they are asked for, and not kept.

    Args:
        names: Their names.
        make: Name -> array.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], AnyArray]) -> None:
        self._names = tuple(names)
        self._make = make

    def __getitem__(self, name: str) -> AnyArray:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Changes to one model.

    Attributes:
        tensors: Stored constant -> new values, for all its uses.
        copies: (node index, input index) -> new values, for one use of a shared constant.
        attributes: Node index -> attribute -> new value (None removes it).
        inputs: (node index, input index) -> new constant in place of whatever fed it.
        masked: (node index, input index) -> (mask, values): entries to overwrite at run time.
        dims: Value name -> axis -> new size, for declared shapes.
        gathers: Node index -> Gather that takes the node's place.
        behind: Node index -> (operator, second operand) that its first output goes through.
        bodies: Indices of nodes whose bodies read values that are cut.
    """

    tensors: Mapping[str, AnyArray] = field(default_factory=dict)
    copies: Mapping[tuple[int, int], AnyArray] = field(default_factory=dict)
    attributes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    inputs: Mapping[tuple[int, int], AnyArray] = field(default_factory=dict)
    masked: Mapping[tuple[int, int], tuple[BoolArray, AnyArray]] = field(default_factory=dict)
    dims: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    gathers: Mapping[int, Gather] = field(default_factory=dict)
    behind: Mapping[int, tuple[str, AnyArray]] = field(default_factory=dict)
    bodies: frozenset[int] = frozenset()


def apply_patch(model: Model, constants: Constants, patch: Patch) -> onnx.ModelProto:
    """Applies a patch to a copy of the model's proto.

    Args:
        model: The model as loaded.
        constants: Its constants.
        patch: The changes.

    Returns:
        A new proto; untouched external tensors still point to the original data files.
    """
    proto = copy_without(model.proto, frozenset(patch.tensors))
    _Applier(proto, constants, patch, fill).run()
    return proto


def patched_variant(model: Model, constants: Constants, patch: Patch) -> Variant:
    """Applies a patch to a variant that is to be run, not stored.

    Args:
        model: The model as loaded.
        constants: Its constants.
        patch: The changes.

    Returns:
        What the runtime needs of the patched model.
    """
    variant = variant_of(model, without=frozenset(patch.tensors))
    _Applier(variant.proto, constants, patch, partial(put, variant)).run()
    return variant


def overwrite(proto: onnx.ModelProto, name: str, array: AnyArray) -> None:
    """Replaces the values of one stored constant, in place.

    Args:
        proto: A proto of the caller's own.
        name: An initializer, or the output of a Constant node.
        array: The new values, of the tensor's type.
    """
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            fill(tensor, array)
            return
    for node in proto.graph.node:
        if node.op_type == "Constant" and name in node.output:
            set_constant(node, array)
            return
    raise InternalError(f"'{name}' is no stored constant")


class _Applier:
    """Carries one patch out on one copied proto."""

    def __init__(
        self, proto: onnx.ModelProto, constants: Constants, patch: Patch, fill_in: Fill
    ) -> None:
        self.graph = proto.graph
        self.fill_in = fill_in
        self.lists_initializers = proto.ir_version < 4
        self.constants = constants
        self.patch = patch
        self.nodes = list(self.graph.node)
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.taken = all_names(self.graph)
        self.dead_before = self._unused()
        self.removed: set[int] = set()
        self.inserted: dict[int, list[onnx.NodeProto]] = {}
        self.appended: dict[int, onnx.NodeProto] = {}

    def run(self) -> None:
        for name, array in self.patch.tensors.items():
            self._write(name, array)
        for (node, place), array in (*self.patch.copies.items(), *self.patch.inputs.items()):
            self._set_input(node, place, array)
        for (node, place), (mask, values) in self.patch.masked.items():
            self._overwrite_entries(node, place, mask, values)
        for node, attributes in self.patch.attributes.items():
            for name, value in attributes.items():
                set_attribute(self.nodes[node], name, value)
        for node, gather in self.patch.gathers.items():
            self._become_gather(node, gather)
        for node, (op_type, operand) in self.patch.behind.items():
            self._go_through(node, op_type, operand)
        for node in self.patch.bodies:
            forget_sizes(self.nodes[node])
        self._declare()
        self._rebuild()

    def _write(self, name: str, array: AnyArray) -> None:
        if name in self.initializers:
            self.fill_in(self.initializers[name], array)
            for value in self.graph.input:
                if value.name == name:
                    set_dims(value, dict(enumerate(array.shape)))
            return
        view = self.constants.node(name)
        if view.op_type == "Constant":
            set_constant(self.nodes[view.index], array)
        elif self.constants.is_generated(name) and is_uniform(array):
            self._set_input(view.index, 0, np.array(array.shape, np.int64))
            set_filling(self.nodes[view.index], array)
        else:
            self.removed.add(view.index)
            self._add(name, array)

    def _set_input(self, node: int, place: int, array: AnyArray) -> None:
        target = self.nodes[node]
        base = target.input[place] if place < len(target.input) and target.input[place] else ""
        name = self._fresh(base or f"{target.output[0]}_operand")
        self._add(name, array)
        while len(target.input) <= place:
            target.input.append("")
        target.input[place] = name

    def _overwrite_entries(self, node: int, place: int, mask: BoolArray, values: AnyArray) -> None:
        """Computed x rest + values: repairs the static entries of a dynamic integer vector.

        (Where would say it more plainly, but exists only from opset 9.)
        """
        target = self.nodes[node]
        computed = target.input[place]
        parts = ("rest", "sizes", "masked", "mended")
        rest, sizes, masked, mended = (self._fresh(f"{computed}_{part}") for part in parts)
        self._add(rest, np.asarray(~mask, values.dtype))
        self._add(sizes, np.where(mask, values, 0).astype(values.dtype))
        self.inserted.setdefault(node, []).extend(
            (
                helper.make_node("Mul", [computed, rest], [masked], name=masked),
                helper.make_node("Add", [masked, sizes], [mended], name=mended),
            )
        )
        target.input[place] = mended

    def _become_gather(self, node: int, gather: Gather) -> None:
        target = self.nodes[node]
        indices = self._fresh(f"{target.output[0]}_order")
        self._add(indices, gather.indices)
        target.op_type = "Gather"
        del target.input[:], target.attribute[:]
        target.input.extend((gather.source, indices))
        target.attribute.append(helper.make_attribute("axis", gather.axis))

    def _go_through(self, node: int, op_type: str, operand: AnyArray) -> None:
        """Whoever reads the node's output reads it behind another operator."""
        target = self.nodes[node]
        out = target.output[0]
        plain, number = self._fresh(f"{out}_plain"), self._fresh(f"{out}_{op_type.lower()}")
        self._add(number, operand)
        self.appended[node] = helper.make_node(op_type, [plain, number], [out], name=plain)
        target.output[0] = plain

    def _add(self, name: str, array: AnyArray) -> None:
        """Adds an initializer; before IR version 4 every initializer is an input as well."""
        tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        self.graph.initializer.append(tensor)
        if self.lists_initializers:
            self.graph.input.append(
                helper.make_tensor_value_info(name, tensor.data_type, list(array.shape))
            )

    def _fresh(self, base: str) -> str:
        name, count = f"{base}_pruned", 1
        while name in self.taken:
            name, count = f"{base}_pruned{count}", count + 1
        self.taken.add(name)
        return name

    def _declare(self) -> None:
        for value in (*self.graph.value_info, *self.graph.output):
            if value.name in self.patch.dims:
                set_dims(value, self.patch.dims[value.name])

    def _unused(self) -> set[str]:
        """Names of node outputs and initializers that nothing reads."""
        read = {name for node in self.nodes for name in names_read(node)}
        read |= {output.name for output in self.graph.output}
        made = {name for node in self.nodes for name in node.output if name}
        return (made | set(self.initializers)) - read

    def _rebuild(self) -> None:
        """Drops what the patch made unused and writes the node list once."""
        alive = [index for index in range(len(self.nodes)) if index not in self.removed]
        while True:
            read = {name for index in alive for name in names_read(self.nodes[index])}
            read |= {n for nodes in self.inserted.values() for node in nodes for n in node.input}
            read |= {n for node in self.appended.values() for n in node.input}
            read |= {output.name for output in self.graph.output}
            kept = [
                index
                for index in alive
                if any(
                    name in read or name in self.dead_before for name in self.nodes[index].output
                )
                or not self.nodes[index].output
            ]
            if len(kept) == len(alive):
                break
            alive = kept
        stale = [
            index
            for index, tensor in enumerate(self.graph.initializer)
            if tensor.name not in read and tensor.name not in self.dead_before
        ]
        for index in reversed(stale):
            name = self.graph.initializer[index].name
            del self.graph.initializer[index]
            for place in reversed(range(len(self.graph.input))):
                if self.graph.input[place].name == name:
                    del self.graph.input[place]
        if len(alive) == len(self.nodes) and not self.inserted and not self.appended:
            return
        made = {name for index in alive for name in self.nodes[index].output}
        made |= {name for node in self.appended.values() for name in node.output}
        gone = {name for node in self.nodes for name in node.output} - made
        for place in reversed(range(len(self.graph.value_info))):
            if self.graph.value_info[place].name in gone:
                del self.graph.value_info[place]
        ordered: list[onnx.NodeProto] = []
        for index in alive:
            ordered.extend(self.inserted.get(index, ()))
            ordered.append(self.nodes[index])
            ordered.extend([self.appended[index]] if index in self.appended else [])
        copies = [node.SerializeToString() for node in ordered]
        del self.graph.node[:]
        for data in copies:
            self.graph.node.add().ParseFromString(data)
