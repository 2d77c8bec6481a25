"""Repairs what spells channel numbers: walks the cut graph and lets every rule mend its node.

Shapes that the cut demands come from the labels; values that the graph will compute come from a
second walk of shape arithmetic, under two sets of stand-ins for dynamic axes. Where the two
disagree, the rule rewrites the constant (or, in a partly dynamic vector, the wrong entries).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import helper

from onnx_scsp.couple import Coupling
from onnx_scsp.couple.shuffles import Shuffle
from onnx_scsp.graph.patch import Gather, Patch
from onnx_scsp.graph.view import NodeView
from onnx_scsp.ops.mend import Known, Mend
from onnx_scsp.ops.rule import RuleTable
from onnx_scsp.types import AnyArray, BoolArray


def mend_graph(coupling: Coupling, rules: RuleTable, patch: Patch, keep: BoolArray) -> Patch:
    """Adds to a patch of cut tensors all repairs that the graph needs.

    Args:
        coupling: The model's groups, labels and shapes.
        rules: Operator rules.
        patch: Cut tensors.
        keep: Units that stay.

    Returns:
        The complete patch.
    """
    return _Mender(coupling, rules, patch, keep).run()


class _Mender:
    """One walk over the cut graph."""

    def __init__(self, coupling: Coupling, rules: RuleTable, patch: Patch, keep: BoolArray) -> None:
        self.coupling = coupling
        self.rules = rules
        self.patch = patch
        self.keep = keep
        walked = coupling.walk
        self.walkers = (walked.walker.restart(), walked.shadow.restart())
        for name, array in patch.tensors.items():
            for walker in self.walkers:
                walker.learn_value(name, array)
        self.kept: dict[str, tuple[BoolArray, ...]] = {}
        for name, units in coupling.activations.items():
            stays = (units < 0) | keep[units]
            if not stays.all():
                self.kept[name] = tuple(_along(stays, axis) for axis in range(stays.ndim))
        self.new_shapes = {
            name: self._new_shape(name, shape) for name, shape in walked.walker.shapes.items()
        }
        self.new_shapes.update({n: tuple(a.shape) for n, a in patch.tensors.items()})
        self.gathers = self._gathers()
        self.gathered = {
            index
            for shuffle in walked.shuffles
            if shuffle.last in self.gathers
            for index in (shuffle.first, shuffle.last)
        }
        self.attributes: dict[int, dict[str, Any]] = {}
        self.inputs: dict[tuple[int, int], AnyArray] = {}
        self.masked: dict[tuple[int, int], tuple[BoolArray, AnyArray]] = {}
        self.behind: dict[int, tuple[str, AnyArray]] = {}
        self.bodies: set[int] = set()

    def run(self) -> Patch:
        for node in self.coupling.walk.graph.nodes:
            self._visit(node)
        return Patch(
            tensors=self.patch.tensors,
            copies=self.patch.copies,
            attributes=self.attributes,
            inputs=self.inputs,
            masked=self.masked,
            dims=self._dims(),
            gathers=self.gathers,
            behind=self.behind,
            bodies=frozenset(self.bodies),
        )

    def _gathers(self) -> dict[int, Gather]:
        """Shuffles whose split axis keeps no rectangle become one Gather of what stays."""
        result = {}
        for shuffle in self.coupling.walk.shuffles:
            kept = self._kept(shuffle.source, shuffle.axis)
            if not kept.all() and not self._is_rectangular(shuffle):
                places = np.cumsum(kept) - 1
                indices = places[shuffle.order[kept[shuffle.order]]]
                result[shuffle.last] = Gather(shuffle.source, shuffle.axis, indices)
        return result

    def _is_rectangular(self, shuffle: Shuffle) -> bool:
        units = self.coupling.activations[shuffle.inside[0]]
        stays = (units < 0) | self.keep[units]
        counts = [int(_along(stays, axis).sum()) for axis in range(stays.ndim)]
        return bool(stays.sum() == np.prod(counts))

    def _visit(self, node: NodeView) -> None:
        activations = self.coupling.activations
        if any(name in self.kept for name in node.captured):
            self.bodies.add(node.index)
        rule = None if node.index in self.gathered else self.rules.get((node.domain, node.op_type))
        if rule is not None and rule.mend is not None and self._is_followed(node):
            mend = Mend(
                node=node,
                opset=self.coupling.model.opsets.get(node.domain, 1),
                old_shapes=self.coupling.walk.walker.shapes,
                new_shapes=self.new_shapes,
                kept=self._kept,
                known=lambda index: self._known(node.input(index)),
                before=self.coupling.walk.walker.values,
            )
            rule.mend(mend)
            if mend.attributes:
                self.attributes[node.index] = mend.attributes
            self.inputs.update({(node.index, i): value for i, value in mend.inputs.items()})
            self.masked.update({(node.index, i): value for i, value in mend.masked.items()})
            if mend.behind is not None:
                elem_type = self.coupling.walk.walker.types[node.outputs[0]]
                dtype = helper.tensor_dtype_to_np_dtype(elem_type)
                op_type, number = mend.behind
                self.behind[node.index] = (op_type, np.array(number, dtype))
        for walker, original in zip(
            self.walkers, (self.coupling.walk.walker, self.coupling.walk.shadow), strict=True
        ):
            if any(name in activations for name in node.outputs):
                for name in node.outputs:
                    if name in original.shapes:
                        walker.observe(
                            name,
                            self._new_shape(name, original.shapes[name]),
                            original.types[name],
                        )
            else:
                walker.advance(node)

    def _is_followed(self, node: NodeView) -> bool:
        """Whether labels went through the node (where a shape is unknown they stop and stay)."""
        shapes = self.coupling.walk.walker.shapes
        return node.outputs[0] in self.coupling.activations and all(
            name in shapes for name in (*node.inputs, *node.outputs) if name
        )

    def _new_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if name not in self.kept:
            return shape
        return tuple(
            size if kept.size == 1 else int(kept.sum())
            for size, kept in zip(shape, self.kept[name], strict=True)
        )

    def _kept(self, name: str, axis: int) -> BoolArray:
        size = self.coupling.walk.walker.shapes[name][axis]
        if name not in self.kept:
            return np.ones(size, bool)
        return np.broadcast_to(self.kept[name][axis], (size,))

    def _known(self, name: str) -> Known | None:
        value = self.walkers[0].values.get(name)
        if value is None:
            return None
        other = self.walkers[1].values.get(name)
        if other is None or other.shape != value.shape:
            return Known(value, np.zeros(value.shape, bool))
        return Known(value, np.asarray(value == other))

    def _dims(self) -> Mapping[str, Mapping[int, int]]:
        """New sizes for the declared shapes of values that changed."""
        constants = self.coupling.walk.constants
        result: dict[str, dict[int, int]] = {}
        for name, kept in self.kept.items():
            result[name] = {
                axis: int(mask.sum())
                for axis, mask in enumerate(kept)
                if mask.size > 1 and not mask.all()
            }
        for value in self.coupling.model.proto.graph.value_info:
            if value.name in constants and value.name not in result:
                source = constants.source(value.name)
                if source.name in self.patch.tensors:
                    shape = self.patch.tensors[source.name].shape
                    result[value.name] = {
                        axis: shape[stored]
                        for axis, stored in enumerate(source.axes)
                        if stored >= 0
                    }
        return result


def _along(stays: BoolArray, axis: int) -> BoolArray:
    """Which positions of one axis stay (the kept set is a product over the axes)."""
    others = tuple(other for other in range(stays.ndim) if other != axis)
    return np.asarray(stays.any(axis=others))
