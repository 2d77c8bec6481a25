"""What a rule sees of its node, and the facts it may state.

Every activation carries an integer array of channel labels, of the activation's rank, each axis
either full or of size 1 (the labels do not vary along it). Slots with equal labels, or with labels
that facts equate, can only be removed together. A rule maps the labels of its inputs to labels of
its outputs and may state

    equal(a, b)                         these slots are one channel: they go together
    tie(a, b)                           these slots are different channels that go together
    balance(rows)                       every row keeps equally many of its slots
    makes/scales/reads(input, axis, v)  entries of a constant's axis belong to these labels
    reduces(input, axis, v)             runs over these channels; one that goes counts as zero
    freeze(labels, reason, detail)      these slots stay
    cost(coefficient, *vectors)         MACs = coefficient x kept entries of each vector
    curve(labels)                       the operator does not commute with a positive factor
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_scsp.graph.constants import FLOATS, Constants, Source
from onnx_scsp.graph.routes import Routes
from onnx_scsp.graph.shapes import Walker
from onnx_scsp.graph.view import NodeView
from onnx_scsp.types import AnyArray, FreezeReason, IntArray, Role


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """An activation's concrete shape and its labels.

    Attributes:
        shape: Concrete shape.
        labels: int64 array of the same rank; axes are full or of size 1.
    """

    shape: tuple[int, ...]
    labels: IntArray

    @property
    def varying(self) -> tuple[int, ...]:
        """Axes along which the labels differ."""
        return tuple(axis for axis, size in enumerate(self.labels.shape) if size > 1)

    @property
    def full(self) -> IntArray:
        """The labels broadcast to the activation's shape (a read-only view)."""
        return np.broadcast_to(self.labels, self.shape)

    def along(self, axes: tuple[int, ...]) -> IntArray:
        """The labels with the given axes expanded to full size."""
        target = tuple(
            self.shape[axis] if axis in axes else size
            for axis, size in enumerate(self.labels.shape)
        )
        return np.broadcast_to(self.labels, target)


@dataclass(frozen=True, slots=True, eq=False)
class MemberFact:
    """One use of one axis of a constant.

    Labels of shape (G, n) belong to the G equal parts of axis `across`, one row to each.
    `is_vector`: the stored constant has one axis that is longer than 1 at most.
    """

    use: str
    source: Source
    axis: int
    role: Role
    labels: IntArray
    across: int = -1
    is_vector: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ReductionFact:
    """One input of a node that runs over channels without a weight."""

    use: str
    value: str
    axis: int
    labels: IntArray
    restricted: bool


@dataclass(frozen=True, slots=True, eq=False)
class FreezeFact:
    """Labels that must stay, and why."""

    labels: IntArray
    reason: FreezeReason
    node: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class CostFact:
    """MACs of a node: coefficient x the number of kept entries of each vector."""

    node: str
    coefficient: float
    vectors: tuple[IntArray, ...]


@dataclass(frozen=True, slots=True)
class HeldFact:
    """A node that makes channels in a way that no cut can follow."""

    index: int
    channels: int
    reason: FreezeReason
    detail: str


@dataclass(slots=True, eq=False)
class Facts:
    """Everything that rules stated during one walk (grown by the walk, then only read)."""

    n_labels: int = 0
    equalities: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    ties: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    balances: list[IntArray] = field(default_factory=list)
    members: list[MemberFact] = field(default_factory=list)
    reductions: list[ReductionFact] = field(default_factory=list)
    freezes: list[FreezeFact] = field(default_factory=list)
    costs: list[CostFact] = field(default_factory=list)
    curved: list[IntArray] = field(default_factory=list)
    held: list[HeldFact] = field(default_factory=list)
    activations: dict[str, Labelled] = field(default_factory=dict)
    means: set[int] = field(default_factory=set)
    inside_shuffles: frozenset[str] = frozenset()
    routes: Routes = field(default_factory=dict)

    def fresh(self, count: int) -> IntArray:
        """`count` labels that no slot carries yet."""
        start = self.n_labels
        self.n_labels += count
        return np.arange(start, start + count, dtype=np.int64)


class Site:
    """A node, its inputs' labels, and the place where its rule states facts."""

    def __init__(
        self,
        node: NodeView,
        facts: Facts,
        walker: Walker,
        constants: Constants,
        opsets: Mapping[str, int],
        is_static: Mapping[str, bool],
    ) -> None:
        self.node = node
        self.facts = facts
        self._origin = node
        self._places: tuple[int, ...] = tuple(range(len(node.inputs)))
        self._walker = walker
        self._constants = constants
        self._opsets = opsets
        self._is_static = is_static

    def seen_as(self, op_type: str, places: tuple[int, ...], opset: int | None = None) -> Site:
        """The same node as one of another operator, whose inputs are those at `places`.

        An operator that takes scales and zero points between its data follows the rule of its
        sibling this way; facts are stated about its own inputs.
        """
        inputs = tuple(self.node.input(place) for place in places)
        node = replace(self.node, op_type=op_type, domain="", inputs=inputs)
        opsets = self._opsets if opset is None else {**self._opsets, "": opset}
        site = Site(node, self.facts, self._walker, self._constants, opsets, self._is_static)
        site._origin, site._places = self._origin, places
        return site

    # ---- what the rule may read -------------------------------------------------------------

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute value, or the default."""
        return self.node.attr(name, default)

    @property
    def opset(self) -> int:
        """Operator set version of the node's domain."""
        return self._opsets.get(self.node.domain, 1)

    def has(self, index: int) -> bool:
        """Whether input `index` is present."""
        return bool(self.node.input(index))

    def is_const(self, index: int) -> bool:
        """Whether input `index` is a constant of the model."""
        return self.node.input(index) in self._constants

    def shape(self, index: int) -> tuple[int, ...]:
        """Concrete shape of input `index`."""
        name = self.node.inputs[index]
        return self._constants.shape(name) if name in self._constants else self._walker.shapes[name]

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """Concrete shape of output `index`."""
        return self._walker.shapes[self.node.outputs[index]]

    def value(self, index: int) -> AnyArray | None:
        """Value of a small input that is the same whatever the dynamic axes are, else None."""
        name = self.node.input(index)
        return self._walker.values.get(name) if self._is_static.get(name, True) else None

    def knows(self, index: int) -> bool:
        """Whether the value of input `index` can be followed, under stand-ins where it is dynamic.

        What an operator that no shape arithmetic covers has made (an If, say) is known only to the
        run that it is made in.
        """
        name = self.node.input(index)
        return not name or name in self._walker.values or name in self._constants

    def x(self, index: int = 0) -> Labelled:
        """Labels of activation `index`; a constant or shape value has one frozen label."""
        name = self.node.inputs[index]
        if name in self.facts.activations:
            return self.facts.activations[name]
        shape = self.shape(index)
        label = self.facts.fresh(1)
        self.freeze(label, FreezeReason.NO_PRODUCER, f"'{name}' is a constant used as data")
        return Labelled(shape, label.reshape((1,) * len(shape)))

    # ---- what the rule may state ------------------------------------------------------------

    def emit(self, labels: IntArray, index: int = 0) -> None:
        """Sets the labels of output `index` (any array that broadcasts to its shape)."""
        name = self.node.outputs[index] if index < len(self.node.outputs) else ""
        if not name:
            return
        shape = self.out_shape(index)
        array = np.asarray(labels, np.int64)
        array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
        self.facts.activations[name] = Labelled(shape, array)

    def emit_frozen(self, reason: FreezeReason, detail: str) -> None:
        """Gives every output one label that stays."""
        for index, name in enumerate(self.node.outputs):
            if name and name in self._walker.shapes:
                label = self.fresh(1)
                self.freeze(label, reason, detail)
                self.emit(label, index)

    def fresh(self, count: int) -> IntArray:
        """New labels."""
        return self.facts.fresh(count)

    def equal(self, a: IntArray, b: IntArray) -> None:
        """States that slots of two broadcastable label arrays carry one channel."""
        _record(self.facts.equalities, a, b)

    def tie(self, a: IntArray, b: IntArray) -> None:
        """States that slots of two broadcastable label arrays go together, as a tensor demands."""
        _record(self.facts.ties, a, b)

    def balance(self, rows: IntArray) -> None:
        """States that each row of (G, n) labels keeps equally many slots, wherever they lie."""
        self.facts.balances.append(rows)

    def distinct(self, labels: IntArray) -> IntArray:
        """The same slots with one channel each: repeated labels lose track of which copy is which.

        An operator that picks or reorders slots of such an array may treat the copies of one unit
        otherwise than those of another.
        """
        if np.unique(labels).size == labels.size:
            return labels
        own = self.fresh(labels.size).reshape(labels.shape)
        self.tie(labels, own)
        return own

    def freeze(self, labels: IntArray, reason: FreezeReason, detail: str) -> None:
        """States that these slots stay."""
        self.facts.freezes.append(FreezeFact(np.unique(labels), reason, self._origin.label, detail))

    def hold(self, channels: int, reason: FreezeReason, detail: str) -> None:
        """States that this node's own filters stay although no label stands for them."""
        self.facts.held.append(HeldFact(self.node.index, channels, reason, detail))

    def curve(self, labels: IntArray) -> None:
        """States that the operator does not commute with a positive factor on these slots."""
        self.facts.curved.append(np.unique(labels))

    def cost(self, coefficient: float, *vectors: IntArray) -> None:
        """States the node's MACs per run."""
        self.facts.costs.append(CostFact(self.node.name, coefficient, vectors))

    def vector(self, x: Labelled, axis: int) -> IntArray:
        """Labels of the entries of one axis, shape (axis length,).

        Entries of an axis go together across all other axes; labels that vary only along other
        axes cannot be removed here and are frozen.
        """
        axis %= len(x.shape)
        others = tuple(a for a in x.varying if a != axis)
        if not others:
            return np.ascontiguousarray(x.along((axis,)).reshape(-1))
        if axis not in x.varying:
            detail = f"channels lie on axis {others[0]}, the operator mixes axis {axis}"
            self.freeze(x.labels, FreezeReason.NOT_CHANNEL_AXIS, detail)
            label = self.fresh(1)
            self.freeze(label, FreezeReason.NOT_CHANNEL_AXIS, "not the channel axis")
            return np.repeat(label, x.shape[axis])
        rows = np.moveaxis(x.along((axis,)), axis, 0).reshape(x.shape[axis], -1)
        self.tie(rows[:, :1], rows)
        return np.ascontiguousarray(rows[:, 0])

    def makes(self, index: int, axis: int, labels: IntArray) -> None:
        """Axis `axis` of constant input `index` is the filter axis of these channels."""
        self._member(index, axis, Role.MAKES, labels)

    def scales(self, index: int, axis: int, labels: IntArray) -> None:
        """Axis `axis` of input `index` holds one entry per channel; activations go along."""
        if self.node.inputs[index] in self.facts.activations:
            self.equal(labels, self.vector(self.x(index), axis))
        else:
            self._member(index, axis, Role.SCALES, labels)

    def reads(self, index: int, axis: int, labels: IntArray, across: int = -1) -> None:
        """Axis `axis` of constant input `index` is a consumer's input axis.

        Labels of shape (G, n): the G equal parts of axis `across` read other channels each.
        """
        self._member(index, axis, Role.READS, labels, across)

    def reduces(self, index: int, axis: int, labels: IntArray, restricted: bool = False) -> None:
        """The node runs over axis `axis` of activation `index`, with zeros for what goes.

        Where they change something, the rule mends. `restricted`: what goes does not count.
        """
        name = self.node.inputs[index]
        axis %= len(self.x(index).shape)
        use = f"{self._origin.index}:{self._places[index]}"
        self.facts.reductions.append(ReductionFact(use, name, axis, labels, restricted))

    def is_float(self, index: int) -> bool:
        """Whether input `index` holds real numbers."""
        return self._walker.types.get(self.node.input(index)) in FLOATS

    def _member(
        self, index: int, axis: int, role: Role, labels: IntArray, across: int = -1
    ) -> None:
        name = self.node.inputs[index]
        if name not in self._constants:
            self.freeze(
                labels, FreezeReason.COMPUTED_WEIGHT, f"input '{name}' is computed at run time"
            )
            return
        if self._constants.is_blocked(name):
            detail = f"'{name}' is quantised in blocks of several channels"
            self.freeze(labels, FreezeReason.COMPUTED_WEIGHT, detail)
            return
        source = self._constants.source(name)
        stored = source.axes[axis]
        if stored < 0:
            return  # an inserted axis of size 1 carries no channels
        use = f"{self._origin.index}:{self._places[index]}"
        part = source.axes[across] if across >= 0 else -1
        is_vector = sum(size > 1 for size in self._constants.shape(source.name)) <= 1
        fact = MemberFact(use, source, stored, role, labels, part, is_vector)
        self.facts.members.append(fact)
        self._take_along(index, stored, labels)

    def _take_along(self, index: int, stored: int, labels: IntArray) -> None:
        """Scales and zero points with one entry for each of the stored axis go along with it."""
        vectors = [
            vector
            for vector in self._constants.companions(self._origin, self._places[index])
            if vector.axis == stored
        ]
        if vectors and labels.ndim == 2:  # one vector serves all parts: they are cut alike
            self.tie(labels[:1], labels)
            labels = labels[0]
        for vector in vectors:
            own = self._constants.source(vector.name)
            fact = MemberFact(vector.use, own, own.axes[0], Role.SCALES, labels)
            self.facts.members.append(fact)


def _record(pairs: list[tuple[IntArray, IntArray]], a: IntArray, b: IntArray) -> None:
    left, right = np.broadcast_arrays(a, b)
    differ = left != right
    if differ.any():
        pairs.append((left[differ], right[differ]))
