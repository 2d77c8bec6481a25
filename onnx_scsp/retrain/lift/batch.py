"""Frees the batch size where the exporter baked it into shape constants.

The model is run twice on shapes alone (torch's `meta` device): at the batch size B of the file and
at r B. A value carries samples where its two shapes differ, and it must differ by the factor r on
one axis. Where an operator fails at r B, or its result does not grow so, the operand that spells
the batch is looked for:

- *Reshape*: entries lie in row-major order, so the product P of all sizes before the batch (on the
  axes before it, and `lead` on its own axis where axes were merged) is the same before and after.
  Axis k of the result can hold the batch where `shape[:k]` multiplies to a divisor of P and
  `shape[:k + 1]` to a multiple of P B. An axis that holds nothing else is preferred, then one where
  the batch comes last, then the first.
- *Expand*, *Resize*: the entry of the batch's axis.
- *Slice*: an end that reached the end of the batch's axis is opened.
- Operands without samples beside others that have them (a class token, an initial state) are
  repeated, if all their B entries are equal.

If nothing helps the batch stays B, with the node as the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onnx_scsp.errors import ModelError, ScspError
from onnx_scsp.graph.shapes import input_specs
from onnx_scsp.retrain.lift.op import DTYPES, ints, to_tensor
from onnx_scsp.types import AnyArray

if TYPE_CHECKING:
    from onnx_scsp.retrain.lift.program import Program, Step

_FACTOR = 7
_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Repair:
    """One operand that spells the batch size.

    Attributes:
        kind: `scale` (an entry of a shape), `open` (an end of a Slice) or `repeat` (an operand
            that lacks samples).
        place: The operand.
        entry: Entry of it; for `repeat` the axis.
    """

    kind: str
    place: int
    entry: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Which batch sizes a lifted model takes.

    Attributes:
        size: Batch size B of the file (a stand-in where the file leaves it open).
        inputs: Inputs whose first axis counts samples.
        free: Whether any batch size works.
        reason: Why not, with the node that stands in the way; '' where it is free.
        repairs: Step -> what is adjusted there at run time.
    """

    size: int
    inputs: tuple[str, ...]
    free: bool
    reason: str = ""
    repairs: Mapping[int, tuple[Repair, ...]] = field(default_factory=dict)

    def samples(self, inputs: Mapping[str, Tensor]) -> Any:
        """The batch size of some inputs.

        Raises:
            ModelError: It is not that of the file, and it is not free.
        """
        if not self.inputs:
            return self.size
        samples = inputs[self.inputs[0]].shape[0]
        if not self.free and samples != self.size:
            raise ModelError(f"batch size {samples}: {self.reason}")
        return samples


def repaired(
    repairs: tuple[Repair, ...], operands: list[Any], samples: Any, size: int
) -> list[Any]:
    """Operands of a node for a batch of `samples` instead of `size`."""
    operands = list(operands)
    for repair in repairs:
        operand = operands[repair.place]
        if repair.kind == "repeat":
            device = next(o.device for o in operands if isinstance(o, Tensor))
            operands[repair.place] = _repeated(operand, repair.entry, samples, device)
            continue
        entries = ints(operand)
        if repair.kind == "open":
            entries[repair.entry] = _LAST
        else:
            entries[repair.entry] = entries[repair.entry] // size * samples
        operands[repair.place] = _sizes(entries)
    return operands


def _repeated(operand: Any, axis: int, samples: Any, device: torch.device) -> Tensor:
    tensor = to_tensor(operand, device) if isinstance(operand, np.ndarray) else operand
    shape = list(tensor.shape)
    shape[axis] = samples
    return tensor.narrow(axis, 0, 1).expand(shape)


def _sizes(entries: list[Any]) -> AnyArray:
    if all(isinstance(entry, int) for entry in entries):
        return np.array(entries, np.int64)
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def free_batch(program: Program, constant: Callable[[str], Tensor | None]) -> Batch:
    """Finds out whether the batch size is free, and what has to be adjusted for it.

    Args:
        program: The compiled model.
        constant: Stored or folded constant by name.

    Returns:
        The record.
    """
    return _Analysis(program, constant).run()


class _Analysis:
    """The two walks, side by side."""

    def __init__(self, program: Program, constant: Callable[[str], Tensor | None]) -> None:
        self.program, self.constant = program, constant
        self.metas: dict[str, Tensor] = {}
        self.lead: dict[str, Any] = {}
        self.repairs: dict[int, tuple[Repair, ...]] = {}
        specs = input_specs(program.model, program.graph, program.constants)
        ranked = [spec for spec in specs if spec.shape]
        self.size = ranked[0].shape[0] if ranked else 1
        self.is_open = bool(ranked and ranked[0].dynamic[0])
        self.inputs = tuple(spec.name for spec in ranked if spec.shape[0] == self.size)
        self.known: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for spec in specs:
            for values, factor in zip(self.known, (1, _FACTOR), strict=True):
                shape = list(spec.shape)
                if spec.name in self.inputs:
                    shape[0] *= factor
                values[spec.name] = torch.empty(
                    shape, dtype=DTYPES.get(spec.elem_type), device="meta"
                )

    def run(self) -> Batch:
        for index, step in enumerate(self.program.steps):
            reason = self._advance(index, step)
            if reason:
                return self._stuck(reason)
            for name in step.forget:
                self.known[0].pop(name, None)
                self.known[1].pop(name, None)
        return Batch(self.size, self.inputs, True, "", self.repairs)

    def _stuck(self, reason: str) -> Batch:
        """A file that declares its batch open is believed; it ran so in its exporter."""
        return Batch(self.size, self.inputs, self.is_open, "" if self.is_open else reason)

    def _advance(self, index: int, step: Step) -> str:
        first, second = ([self._value(n, v) for n in step.node.inputs] for v in self.known)
        carriers = [place for place in range(len(first)) if _grows(first[place], second[place])]
        label = step.node.label
        try:
            base = self._call(step, first)
        except (
            RuntimeError,
            NotImplementedError,
            TypeError,
            ValueError,
            IndexError,
            ScspError,
        ) as error:
            return f"its shapes could not be followed past node {label}: {_sentence(error)}"
        grown = self._attempt(step, second)
        if not self._is_right(step, first, second, carriers, base, grown):
            found = None
            for repairs in self._candidates(step, first, second, carriers, base):
                samples = self.size * _FACTOR
                grown = self._attempt(step, repaired(repairs, second, samples, self.size))
                if self._is_right(step, first, second, carriers, base, grown):
                    found = repairs
                    break
            if found is None:
                return f"the file fixes it at {self.size}; node {label} mixes samples or spells it"
            self.repairs[index] = found
        self._note(step, first, second, carriers, base, grown or base)
        return ""

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if name in self.program.host:
            return self.program.host[name]
        if name not in self.metas:
            stored = self.constant(name)
            if stored is None:
                raise ModelError(f"'{name}' is not defined in the model")
            self.metas[name] = torch.empty_like(stored, device="meta")
        return self.metas[name]

    def _call(self, step: Step, operands: list[Any]) -> tuple[Any, ...]:
        def tensor_of(name: str, array: AnyArray) -> Tensor:
            return to_tensor(array, "meta")

        with torch.no_grad():
            return step(operands, tensor_of, torch.device("meta"))

    def _attempt(self, step: Step, operands: list[Any]) -> tuple[Any, ...] | None:
        try:
            return self._call(step, operands)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, ScspError):
            return None  # which the caller takes for a baked batch

    def _is_right(
        self,
        step: Step,
        first: list[Any],
        second: list[Any],
        carriers: list[int],
        base: tuple[Any, ...],
        grown: tuple[Any, ...] | None,
    ) -> bool:
        """Whether every result grows with the batch, on the axis where the samples are."""
        if grown is None:
            return False
        if not carriers:
            return True
        for a, b in zip(base, grown, strict=True):
            if not isinstance(a, Tensor):
                continue
            axis = _batch_axis(a, b)
            if axis is None:
                return False
            if step.node.op_type in ("Reshape", "Flatten") and not self.is_open:
                place = self._reshaped_axis(step, first, second, carriers, a)
                if place is None or place[0] != axis:
                    return False
        return True

    def _reshaped_axis(
        self, step: Step, first: list[Any], second: list[Any], carriers: list[int], result: Tensor
    ) -> tuple[int, int] | None:
        """Axis of a Reshape's result that holds the batch, and what leads it there."""
        x = first[carriers[0]]
        axis = _batch_axis(x, second[carriers[0]])
        if axis is None:
            return None
        before = _product(x.shape[:axis]) * self.lead.get(step.node.inputs[carriers[0]], 1)
        ahead, fitting = 1, []
        for place, size in enumerate(result.shape):
            if before % ahead == 0 and (ahead * size) % (before * self.size) == 0:
                alone = ahead == before and size == self.size
                last = ahead * size == before * self.size
                fitting.append((not alone, not last, place, before // ahead))
            ahead *= size
        return min(fitting)[2:] if fitting else None

    def _candidates(
        self,
        step: Step,
        first: list[Any],
        second: list[Any],
        carriers: list[int],
        base: tuple[Any, ...],
    ) -> Iterator[tuple[Repair, ...]]:
        kind, node = step.node.op_type, step.node
        if kind == "Reshape" and 0 in carriers and isinstance(second[1], np.ndarray):
            place = self._reshaped_axis(step, first, second, carriers, base[0])
            if place is not None and ints(second[1])[place[0]] > 0:
                yield (Repair("scale", 1, place[0]),)
        axis = _batch_axis(first[0], second[0]) if 0 in carriers else None
        if axis is not None and kind == "Expand" and isinstance(second[1], np.ndarray):
            yield (Repair("scale", 1, axis + second[1].size - first[0].ndim),)
        if axis is not None and kind == "Resize" and not node.attr("axes") and node.input(3):
            yield (Repair("scale", 3, axis),)
        if (
            axis is not None
            and kind == "Slice"
            and len(second) > 3
            and isinstance(second[2], np.ndarray)
        ):
            along = range(len(ints(second[1]))) if second[3] is None else ints(second[3])
            for entry, sliced in enumerate(along):
                if sliced % first[0].ndim == axis and ints(second[1])[entry] == 0:
                    yield (Repair("open", 2, entry),)
        if carriers:
            yield from self._repetitions(step, first, second, carriers)

    def _repetitions(
        self, step: Step, first: list[Any], second: list[Any], carriers: list[int]
    ) -> Iterator[tuple[Repair, ...]]:
        """All operands without samples that have B entries where the carriers have theirs."""
        lead = carriers[0]
        axis = _batch_axis(first[lead], second[lead])
        if axis is None:
            return
        if step.node.op_type in ("LSTM", "GRU", "RNN"):
            axis = 0 if step.node.attr("layout", 0) else 1
        found = []
        for place, operand in enumerate(first):
            if place in carriers or operand is None or not hasattr(operand, "ndim"):
                continue
            own = (
                axis
                if step.node.op_type in ("LSTM", "GRU", "RNN")
                else axis + operand.ndim - first[lead].ndim
            )
            if (
                0 <= own < operand.ndim
                and operand.shape[own] == self.size
                and self._is_even(step.node.inputs[place], own)
            ):
                found.append(Repair("repeat", place, own))
        if found:
            yield tuple(found)

    def _is_even(self, name: str, axis: int) -> bool:
        """Whether an operand's entries for the samples are equal (one entry always is)."""
        if self.size == 1:
            return True
        stored = self.constant(name)
        if stored is None:
            return False
        return bool((stored == stored.narrow(axis, 0, 1)).all())

    def _note(
        self,
        step: Step,
        first: list[Any],
        second: list[Any],
        carriers: list[int],
        base: tuple[Any, ...],
        grown: tuple[Any, ...],
    ) -> None:
        lead = self.lead.get(step.node.inputs[carriers[0]], 1) if carriers else 1
        if carriers and step.node.op_type in ("Reshape", "Flatten"):
            place = self._reshaped_axis(step, first, second, carriers, base[0])
            lead = place[1] if place is not None else 1
        for name, a, b in zip(step.node.outputs, base, grown, strict=False):
            if name:
                self.known[0][name], self.known[1][name] = a, b
                self.lead[name] = lead


def _grows(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape != b.shape


def _batch_axis(a: Any, b: Any) -> int | None:
    """The one axis on which b is `_FACTOR` times a, None where they differ otherwise."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.ndim != b.ndim:
        return None
    grown = [axis for axis in range(a.ndim) if a.shape[axis] != b.shape[axis]]
    if len(grown) != 1 or b.shape[grown[0]] != _FACTOR * a.shape[grown[0]]:
        return None
    return grown[0]


def _product(sizes: Any) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
