"""Batch normalisation put back where an exporter folded it away, and folded again after training.

Behind a Conv with output x (one mean m and variance v per channel, measured on sample inputs) comes

    y = s (x - m) / sqrt(v + eps) + t,   s = sqrt(v + eps),  t = m

which computes y = x. Trained s', t', m', v' are folded back into the Conv W, b:

    W' = W f,   b' = (b - m') f + t',   f = s' / sqrt(v' + eps)   per output channel
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import Patch, apply_patch
from onnx_scsp.graph.session import InferenceSession, open_variant, run_session, with_outputs
from onnx_scsp.graph.view import GraphView, NodeView, view
from onnx_scsp.retrain.back import with_proto
from onnx_scsp.types import AnyArray, FloatArray

EPSILON = 1e-5
_CONVS = frozenset({"Conv", "ConvTranspose"})
_TYPES = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})
_PARTS = ("scale", "bias", "mean", "variance")


@dataclass(frozen=True, slots=True)
class Slot:
    """One inserted BatchNormalization.

    Attributes:
        conv: Position of the Conv in the source graph.
        weight: Its stored weight.
        axis: Axis of the stored weight that holds the output channels.
        groups: Groups of a transposed convolution whose output channels lie side by side there.
        output: The value that is normalised.
        scale: Names of the new initializers.
        bias: The same.
        mean: The same.
        variance: The same.
    """

    conv: int
    weight: str
    axis: int
    groups: int
    output: str
    scale: str
    bias: str
    mean: str
    variance: str


@dataclass(frozen=True, slots=True, eq=False)
class Slotted:
    """A model with batch normalisation behind its convolutions.

    Attributes:
        model: The model with slots.
        source: The model it was made from.
        slots: What was inserted.
        skipped: Convolution -> why it has no slot.
    """

    model: Model
    source: Model
    slots: tuple[Slot, ...]
    skipped: Mapping[str, str]


def restore_batch_norm(model: Model, batches: Iterable[Mapping[str, AnyArray]]) -> Slotted:
    """Inserts a BatchNormalization behind each Conv and ConvTranspose; the function stays the same.

    Args:
        model: The model.
        batches: Sample inputs; each batch is one run.

    Returns:
        The model with slots, and what is needed to fold them.

    Raises:
        ModelError: There are no batches, or the model does not run on them.
    """
    graph = view(model.proto)
    constants = Constants(model, graph)
    slots, skipped = _find_slots(model, graph, constants)
    if not slots:
        return Slotted(model, model, (), skipped)
    statistics = _measure(model, slots, batches)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    _insert(proto, graph, constants, slots, statistics)
    return Slotted(with_proto(model, proto), model, slots, skipped)


def fold(slotted: Slotted, trained: Model) -> Model:
    """Folds trained slots back into the source's own initializers.

    The result has the source's graph; a Conv that had no bias is given one where it needs it.

    Args:
        slotted: What `restore_batch_norm` returned.
        trained: Its model with trained weights (`write_back`).

    Returns:
        The source with the trained weights.

    Raises:
        ModelError: `trained` is not the slotted model.
    """
    source = slotted.source
    graph, after_graph = view(source.proto), view(trained.proto)
    constants, after = Constants(source, graph), Constants(trained, after_graph)
    _check_same(slotted, constants, after)
    tensors = {
        name: after.array(name)
        for name in constants.names()
        if name in after and _differs(constants.array(name), after.array(name))
    }
    copies: dict[tuple[int, int], AnyArray] = {}
    uses = _use_counts(graph, constants)
    for slot in slotted.slots:
        factor, shift = _affine(slot, after)
        if (factor == 1).all() and (shift == 0).all():
            continue
        tensors[slot.weight] = _scaled(after.array(slot.weight), factor, slot)
        node = graph.nodes[slot.conv]
        bias = _folded_bias(node, factor, shift, after)
        if bias is not None:
            stored = _stored_bias(node, constants, uses)
            if stored:
                tensors[stored] = bias
            else:
                copies[node.index, 2] = bias
    if not tensors and not copies:
        return source
    return with_proto(source, apply_patch(source, constants, Patch(tensors=tensors, copies=copies)))


def _find_slots(
    model: Model, graph: GraphView, constants: Constants
) -> tuple[tuple[Slot, ...], dict[str, str]]:
    uses = _use_counts(graph, constants)
    taken = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)}
    taken |= set(constants.names())
    slots, skipped = [], {}
    for node in graph.nodes:
        if node.op_type in _CONVS and not node.domain:
            reason = _reason(node, graph, constants, uses)
            if reason:
                skipped[node.name] = reason
            else:
                slots.append(_slot(node, constants, taken))
    return tuple(slots), skipped


def _use_counts(graph: GraphView, constants: Constants) -> dict[str, int]:
    """Stored constant -> operands that read it, directly or through Identity and its like."""
    uses: dict[str, int] = {}
    for node in graph.nodes:
        if node.outputs and node.outputs[0] in constants:
            continue  # only leads from a stored constant to its use
        for name in (*node.inputs, *node.captured):
            if name in constants:
                origin = constants.source(name).name
                uses[origin] = uses.get(origin, 0) + 1
    return uses


def _reason(node: NodeView, graph: GraphView, constants: Constants, uses: dict[str, int]) -> str:
    """Why a convolution gets no slot, '' where it does."""
    readers = graph.consumers.get(node.outputs[0], ())
    if any(r.op_type == "BatchNormalization" and r.input(0) == node.outputs[0] for r in readers):
        return "a BatchNormalization follows already"
    weight = node.input(1)
    if weight not in constants:
        return "its weight is computed"
    source = constants.source(weight)
    if constants.is_derived(source.name) or source.quantised or not constants.is_float(source.name):
        return "its weight is computed or quantised"
    if constants.elem_type(source.name) not in _TYPES:
        return "its type is narrower than 32 bits"
    if uses.get(source.name, 0) != 1:
        return "its weight is shared"
    transposed = node.op_type == "ConvTranspose"
    if source.axes[int(transposed)] < 0 or (transposed and _is_turned(source.axes)):
        return "its weight is turned round"
    bias = node.input(2)
    if bias and bias not in constants:
        return "its bias is computed"
    return ""


def _is_turned(axes: tuple[int, ...]) -> bool:
    return axes != tuple(range(len(axes)))


def _slot(node: NodeView, constants: Constants, taken: set[str]) -> Slot:
    source = constants.source(node.inputs[1])
    transposed = node.op_type == "ConvTranspose"
    names = [_fresh(f"{node.outputs[0]}_norm_{part}", taken) for part in _PARTS]
    return Slot(
        conv=node.index,
        weight=source.name,
        axis=source.axes[1 if transposed else 0],
        groups=int(node.attr("group", 1)) if transposed else 1,
        output=node.outputs[0],
        scale=names[0],
        bias=names[1],
        mean=names[2],
        variance=names[3],
    )


def _fresh(base: str, taken: set[str]) -> str:
    name, count = base, 1
    while name in taken:
        name, count = f"{base}{count}", count + 1
    taken.add(name)
    return name


@dataclass(slots=True)
class _Moments:
    """Mean and sum of squared deviations per channel, merged batch by batch (Chan et al. 1983)."""

    count: int
    mean: FloatArray
    squares: FloatArray

    def add(self, values: AnyArray) -> None:
        """Adds entries of shape (n, channels)."""
        count = len(values)
        mean = values.mean(0)
        squares = ((values - mean) ** 2).sum(0)
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * self.count * count / total
        self.mean = self.mean + apart * count / total
        self.count = total


def _measure(
    model: Model, slots: tuple[Slot, ...], batches: Iterable[Mapping[str, AnyArray]]
) -> dict[str, _Moments]:
    moments: dict[str, _Moments] = {}
    names = [slot.output for slot in slots]
    probe = with_outputs(model.proto, names)
    with open_variant(probe, model, optimise=True) as session:
        for batch in batches:
            _add_batch(session, batch, names, moments)
    if not moments:
        raise ModelError("no sample inputs were given; batch statistics need at least one batch")
    return moments


def _add_batch(
    session: InferenceSession,
    batch: Mapping[str, AnyArray],
    names: list[str],
    moments: dict[str, _Moments],
) -> None:
    for name, array in run_session(session, batch, names).items():
        values = np.moveaxis(array, 1, -1).reshape(-1, array.shape[1]).astype(np.float64)
        if not len(values):
            continue
        if name not in moments:
            zeros = np.zeros(values.shape[1])
            moments[name] = _Moments(0, zeros, zeros)
        moments[name].add(values)


def _insert(
    proto: onnx.ModelProto,
    graph: GraphView,
    constants: Constants,
    slots: tuple[Slot, ...],
    statistics: dict[str, _Moments],
) -> None:
    """The Conv's output gets another name; the slot's output takes the old one."""
    behind = {slot.conv: slot for slot in slots}
    taken = set(graph.producers) | set(graph.consumers)
    nodes = []
    for index, node in enumerate(proto.graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        if index not in behind:
            continue
        slot = behind[index]
        copy.output[0] = _fresh(f"{slot.output}_before_norm", taken)
        operands = [slot.scale, slot.bias, slot.mean, slot.variance]
        nodes.append(
            helper.make_node(
                "BatchNormalization",
                [copy.output[0], *operands],
                [slot.output],
                name=f"{slot.output}_norm",
                epsilon=EPSILON,
            )
        )
        dtype = constants.array(slot.weight).dtype
        _add_constants(proto, slot, statistics[slot.output], dtype)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _add_constants(proto: onnx.ModelProto, slot: Slot, moments: _Moments, dtype: np.dtype) -> None:
    variance = (moments.squares / moments.count).astype(dtype)
    mean = moments.mean.astype(dtype)
    scale = np.sqrt(variance.astype(np.float64) + EPSILON).astype(dtype)
    values = (scale, mean, mean, variance)
    for name, array in zip((slot.scale, slot.bias, slot.mean, slot.variance), values, strict=True):
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        proto.graph.initializer.append(tensor)
        if proto.ir_version < 4:
            proto.graph.input.append(
                helper.make_tensor_value_info(name, tensor.data_type, list(array.shape))
            )


def _check_same(slotted: Slotted, constants: Constants, after: Constants) -> None:
    for name in (*constants.names(), *(slot.scale for slot in slotted.slots)):
        if name not in after:
            raise ModelError(f"tensor '{name}' is missing; this is not the model with the slots")
    for name in constants.names():
        if after.shape(name) != constants.shape(name):
            raise ModelError(
                f"tensor '{name}' has shape {after.shape(name)}, {constants.shape(name)} was "
                "expected: fold the slots before channels are removed"
            )


def _differs(a: AnyArray, b: AnyArray) -> bool:
    return a.tobytes() != b.tobytes()


def _affine(slot: Slot, after: Constants) -> tuple[FloatArray, FloatArray]:
    """Y = factor x + shift, per output channel."""
    scale, bias, mean, variance = (
        after.array(name).astype(np.float64)
        for name in (slot.scale, slot.bias, slot.mean, slot.variance)
    )
    deviation = np.sqrt(variance + EPSILON)
    exact = np.sqrt(variance + EPSILON).astype(after.array(slot.scale).dtype)
    # an untouched slot is exactly the identity: its scale is the rounded deviation
    factor = np.where(scale == exact.astype(np.float64), 1.0, scale / deviation)
    return factor, bias - mean * factor


def _folded_bias(
    node: NodeView, factor: FloatArray, shift: FloatArray, after: Constants
) -> AnyArray | None:
    """The new bias, None where the Conv has none and needs none."""
    dtype = after.array(node.inputs[1]).dtype
    old = after.array(node.inputs[2]).astype(np.float64) if node.input(2) else 0.0
    bias = (old * factor + shift).astype(dtype)
    return bias if node.input(2) or (bias != 0).any() else None


def _stored_bias(node: NodeView, constants: Constants, uses: Mapping[str, int]) -> str:
    """The stored constant that is this Conv's bias and nothing else, '' where there is none."""
    if not node.input(2):
        return ""
    source = constants.source(node.inputs[2])
    is_plain = not constants.is_derived(source.name) and len(source.axes) == 1
    return source.name if is_plain and uses.get(source.name) == 1 else ""


def _scaled(weight: AnyArray, factor: FloatArray, slot: Slot) -> AnyArray:
    """The weight with each output channel times its factor.

    The output channels of a transposed convolution are (group, axis 1), and a group reads its own
    part of axis 0.
    """
    wide = weight.astype(np.float64)
    if slot.groups > 1:
        parts = wide.reshape(slot.groups, -1, *wide.shape[1:])
        each = factor.reshape(slot.groups, 1, -1, *[1] * (wide.ndim - 2))
        return np.ascontiguousarray((parts * each).reshape(wide.shape).astype(weight.dtype))
    view = [1] * wide.ndim
    view[slot.axis] = -1
    return np.ascontiguousarray((wide * factor.reshape(view)).astype(weight.dtype))
