"""What a rule sees when it repairs its node after a cut, and what it may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_scsp.errors import InternalError
from onnx_scsp.graph.view import NodeView
from onnx_scsp.types import AnyArray, BoolArray


@dataclass(frozen=True, slots=True)
class Known:
    """A small value as the cut graph computes it.

    Attributes:
        value: The value under the stand-in sizes.
        static: Boolean array of the same shape: which entries do not depend on dynamic axes.
    """

    value: AnyArray
    static: BoolArray


@dataclass(slots=True, eq=False)
class Mend:
    """One node after the cut.

    Attributes:
        node: The node.
        opset: Operator set version of its domain.
        old_shapes: Value name -> shape before the cut.
        new_shapes: Value name -> shape that the cut demands.
        kept: `kept(value, axis)` -> boolean array over the axis before the cut.
        known: `known(input index)` -> the input's value in the cut graph, or None.
        before: Value name -> small values before the cut.
        attributes: Attribute changes, filled by the rule.
        inputs: Input index -> new constant, filled by the rule.
        masked: Input index -> (entries to overwrite, values), for values that are partly dynamic.
        behind: (operator, number) that the node's output is to go through, or None.
    """

    node: NodeView
    opset: int
    old_shapes: Mapping[str, tuple[int, ...]]
    new_shapes: Mapping[str, tuple[int, ...]]
    kept: Callable[[str, int], BoolArray]
    known: Callable[[int], Known | None]
    before: Mapping[str, AnyArray]
    attributes: dict[str, Any] = field(default_factory=dict)
    inputs: dict[int, AnyArray] = field(default_factory=dict)
    masked: dict[int, tuple[BoolArray, AnyArray]] = field(default_factory=dict)
    behind: tuple[str, float] | None = None

    def in_shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of input `index` after the cut."""
        return self.new_shapes[self.node.inputs[index]]

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of output `index` after the cut."""
        return self.new_shapes[self.node.outputs[index]]

    def is_cut(self) -> bool:
        """Whether any input or output changes its shape."""
        names = [n for n in (*self.node.inputs, *self.node.outputs) if n in self.new_shapes]
        return any(self.new_shapes[name] != self.old_shapes[name] for name in names)

    def set_entries(self, index: int, required: AnyArray, wrong: BoolArray) -> None:
        """Overwrites the entries `wrong` of an integer vector input with `required`.

        Args:
            index: Input index.
            required: Vector of the input's length.
            wrong: Which entries differ from what the graph computes.

        Raises:
            InternalError: An entry that is wrong depends on a dynamic axis.
        """
        if not wrong.any():
            return
        known = self.known(index)
        if known is None or not known.static[wrong].all():
            raise InternalError(
                f"{self.node.label}: its input {index} spells a channel number that depends on a "
                "dynamic axis and cannot be repaired"
            )
        if known.static.all():
            value = np.where(wrong, required, known.value).astype(known.value.dtype)
            self.inputs[index] = value
        else:
            self.masked[index] = (wrong, required.astype(known.value.dtype))
