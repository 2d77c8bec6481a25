"""Conv-BN-activation chains: a producer, the normalisation that alone reads it, the activation."""

from __future__ import annotations

from onnx_scsp.couple.walk import Walk
from onnx_scsp.graph.view import NodeView
from onnx_scsp.types import Chain, Role

ACTIVATIONS = frozenset(
    (
        "Relu LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu Mish Clip "
        "Softplus Swish Erf"
    ).split()
)
_THROUGH = frozenset({"Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"})
_WEIGHT_PLACE = {"Conv": 1, "ConvTranspose": 1, "QLinearConv": 3, "ConvInteger": 1}
_BIAS_PLACE = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "QLinearConv": 8, "QGemm": 6}


def find_chains(walked: Walk) -> tuple[Chain, ...]:
    """Finds the chain that starts at each producer (and each depthwise convolution).

    Args:
        walked: A walk over the graph.

    Returns:
        Chains in graph order.
    """
    seen: dict[int, Chain] = {}
    for fact in walked.facts.members:
        index, operand = (int(part) for part in fact.use.split(":"))
        node = walked.graph.nodes[index]
        is_producer = fact.role is Role.MAKES or (
            fact.role is Role.SCALES and _WEIGHT_PLACE.get(node.op_type) == operand
        )
        if is_producer and index not in seen:
            seen[index] = _chain(walked, node, fact.source.name, fact.axis)
    return tuple(seen[index] for index in sorted(seen))


def _chain(walked: Walk, node: NodeView, weight: str, axis: int) -> Chain:
    bias, place = "", _BIAS_PLACE.get(node.op_type, len(node.inputs))
    if node.input(place) in walked.constants:
        bias = walked.constants.source(node.inputs[place]).name
    value = node.outputs[0]
    follower = _only_reader(walked, value)
    if follower is not None and follower.op_type == "Add" and not bias:
        other = [n for n in follower.inputs if n != value]
        if len(other) == 1 and other[0] in walked.constants:
            bias = walked.constants.source(other[0]).name
            value = follower.outputs[0]
            follower = _only_reader(walked, value)
    norm, epsilon = "", 0.0
    norm_tensors: tuple[str, ...] = ()
    if (
        follower is not None
        and follower.op_type == "BatchNormalization"
        and all(name in walked.constants for name in follower.inputs[1:5])
    ):
        norm = follower.name
        norm_tensors = tuple(walked.constants.source(n).name for n in follower.inputs[1:5])
        epsilon = float(follower.attr("epsilon", 1e-5))
        follower = _only_reader(walked, follower.outputs[0])
    activation = follower.op_type if follower and follower.op_type in ACTIVATIONS else ""
    return Chain(
        node=node.name,
        op_type=node.op_type,
        weight=weight,
        makes_axis=axis,
        bias=bias,
        norm=norm,
        norm_tensors=norm_tensors,
        epsilon=epsilon,
        activation=activation,
    )


def _only_reader(walked: Walk, value: str) -> NodeView | None:
    """The single consumer of a value, looking through Identity, Cast, Dropout, quantisation."""
    readers = walked.graph.consumers.get(value, ())
    if len(readers) != 1 or value in walked.graph.outputs:
        return None
    if readers[0].op_type in _THROUGH:
        return _only_reader(walked, readers[0].outputs[0])
    return readers[0]
