"""Which stored constants are trained, which run along, and which stay as they are.

- *Parameters*: floating-point constants at the weight places of the operator table, directly or
  through operators on constants (Identity, Cast, Transpose, weight standardisation, ...), and
  constant operands of Add, Sub, Mul and Div with one entry per channel (the bias of a MatMul, a
  layer scale). The channel axis of a value is 1 after Conv, ConvTranspose and batch normalisation,
  the last one after MatMul, Gemm and LayerNormalization (a spelled-out one, too); elementwise
  operators and Transpose carry it on.
- *Statistics*: running mean and variance of BatchNormalization.
- The rest (position grids, anchor boxes, input normalisation, shapes) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.view import GraphView, NodeView
from onnx_scsp.retrain.lift.op import Entry
from onnx_scsp.retrain.lift.table import OPERATORS

_SECOND_AXIS = frozenset(
    "Conv ConvTranspose BatchNormalization InstanceNormalization GroupNormalization".split()
)
_LAST_AXIS = frozenset("MatMul Gemm LayerNormalization RMSNormalization".split())
_CARRIERS = frozenset(
    (
        "Add Sub Mul Div Relu Sigmoid Tanh Clip LeakyRelu PRelu Elu Selu Celu HardSigmoid "
        "HardSwish Gelu Mish Softplus Swish Erf Identity Cast Dropout"
    ).split()
)
_VIEWS = frozenset({"Identity", "Cast", "Transpose", "Unsqueeze", "Squeeze", "Reshape"})


@dataclass(frozen=True, slots=True)
class Roles:
    """Stored constants by role.

    Attributes:
        parameters: Names of those that are trained.
        statistics: Names, as nodes read them, of running statistics -> the stored constant.
    """

    parameters: frozenset[str]
    statistics: dict[str, str]


def find_roles(graph: GraphView, constants: Constants) -> Roles:
    """Goes through the nodes once.

    Args:
        graph: The graph.
        constants: Its constants.

    Returns:
        The roles.
    """
    parameters: set[str] = set()
    statistics: dict[str, str] = {}
    channels: dict[str, int] = {}
    computed: dict[str, NodeView] = {}
    for node in graph.nodes:
        operands = [name for name in node.inputs if name]
        if operands and all(name in constants or name in computed for name in operands):
            computed.update(dict.fromkeys(node.outputs, node))
            continue
        found = OPERATORS.get((node.domain, node.op_type))
        if found is None:
            continue
        for name in _weight_operands(node, found, constants, computed, channels):
            parameters.update(_origins(name, constants, computed))
        for place in found.statistics:
            name = node.input(place)
            if name in constants:
                statistics[name] = constants.source(name).name
        _carry_channels(node, constants, channels)
    return Roles(frozenset(parameters), statistics)


def _weight_operands(
    node: NodeView,
    found: Entry,
    constants: Constants,
    computed: Mapping[str, NodeView],
    channels: Mapping[str, int],
) -> Iterator[str]:
    for place, name in enumerate(node.inputs):
        other = node.input(1 - place) if place < 2 else ""
        if place in found.weights:
            if name in constants or name in computed:
                yield name
        elif (
            found.operand_weight
            and name in constants
            and other in channels
            and _is_per_channel(constants.shape(name), channels[other])
        ):
            yield name


def _is_per_channel(shape: tuple[int, ...], channel: int) -> bool:
    """Whether a constant has one entry per channel; `channel` counts from the end (-1, -2)."""
    wide = [axis - len(shape) for axis, size in enumerate(shape) if size > 1]
    return wide == [channel]


def _carry_channels(node: NodeView, constants: Constants, channels: dict[str, int]) -> None:
    """Notes the channel axis of the outputs, counted from the end as broadcasting does."""
    first = next((channels[name] for name in node.inputs if name in channels), None)
    if node.op_type in _LAST_AXIS or _is_mean_of_rows(node, constants):
        channels[node.outputs[0]] = -1
    elif node.op_type in _SECOND_AXIS:
        weight = node.input(1) if node.op_type.startswith("Conv") else ""
        images = -3 if first is None else first
        channels[node.outputs[0]] = (
            1 - len(constants.shape(weight)) if weight in constants else images
        )
    elif node.op_type in _CARRIERS and first is not None:
        channels[node.outputs[0]] = first
    elif node.op_type == "Transpose" and first is not None and node.attr("perm"):
        order = node.attr("perm")
        channels[node.outputs[0]] = order.index(first % len(order)) - len(order)


def _is_mean_of_rows(node: NodeView, constants: Constants) -> bool:
    """The first step of a LayerNormalization that is spelled out."""
    if node.op_type != "ReduceMean" or not node.attr("keepdims", 1):
        return False
    if node.input(1) in constants:
        return constants.array(node.inputs[1]).reshape(-1).tolist() == [-1]
    return bool(node.attr("axes") == [-1])


def _origins(name: str, constants: Constants, computed: Mapping[str, NodeView]) -> Iterator[str]:
    """Stored floating-point constants that a constant is made of."""
    node = computed.get(name)
    if node is None or constants.is_generated(name):
        if constants.is_float(name) and name not in constants.code_tensors:
            yield name
        return
    for operand in node.inputs:
        for origin in _origins(operand, constants, computed) if operand else ():
            if node.op_type in _VIEWS or constants.size(origin) > 1:
                yield origin
