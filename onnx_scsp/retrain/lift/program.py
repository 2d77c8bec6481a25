"""A model compiled into steps: what to call, on which values, and what to forget afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from torch import Tensor

from onnx_scsp.errors import UnsupportedError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import GraphView, NodeView, view
from onnx_scsp.retrain.lift.host import HOST, MOST, runs_on_host
from onnx_scsp.retrain.lift.op import ADDING, DTYPES, Entry, Op, make_op, to_host
from onnx_scsp.retrain.lift.roles import Roles, find_roles
from onnx_scsp.retrain.lift.table import OPERATORS
from onnx_scsp.types import AnyArray

Value = Any
"""A tensor, or a numpy array for what is known on the host; None for an absent operand."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node, ready to run.

    Attributes:
        node: The node.
        entry: Its operator.
        host: Its function on numpy arrays, where it has one.
        ops: What its function sees, without and with training.
        forget: Values that nothing needs any more after it.
    """

    node: NodeView
    entry: Entry
    host: Callable[..., Any] | None
    ops: tuple[Op, Op]
    forget: tuple[str, ...]

    def __call__(
        self,
        values: list[Value],
        tensor_of: Callable[[str, AnyArray], Tensor],
        device: torch.device | None,
        *,
        training: bool = False,
    ) -> tuple[Value, ...]:
        """Computes the outputs.

        Args:
            values: Operands as they come.
            tensor_of: Turns a named host array into a tensor.
            device: Where tensors go that no tensor operand places (fills, ranges).
            training: Whether batch statistics and dropout are on.

        Returns:
            One value per output.
        """
        op = self.ops[training]
        if self.host is not None and runs_on_host(self.node.op_type, values):
            results = self.host(op, *values)
        else:
            results = self.entry.run(op, *self._operands(values, tensor_of))
        several = results if isinstance(results, tuple) else (results,)
        if any(isinstance(value, Tensor) for value in values):
            return several
        return tuple(x.to(device) if isinstance(x, Tensor) else x for x in several)

    def _operands(
        self, values: list[Value], tensor_of: Callable[[str, AnyArray], Tensor]
    ) -> list[Value]:
        host, either = self.entry.host, self.entry.either
        operands = []
        for place, value in enumerate(values):
            known = isinstance(value, np.ndarray)
            if value is None or place in either:
                operands.append(value)
            elif place in host:
                operands.append(value if known else to_host(value))
            else:
                operands.append(tensor_of(self.node.inputs[place], value) if known else value)
        return operands


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A compiled model; it never changes, so copies of a module share it.

    Attributes:
        model: The model, functions inlined.
        graph: Its view.
        constants: Its constants.
        roles: Which of them are trained.
        steps: Live nodes in order; constants that hang on no parameter are not computed again.
        host: Constant -> values, where shape arithmetic may need them.
        folded: Computed constants that steps read -> values.
        aliases: Running statistic as a node reads it -> stored constant, where the node needs a
            buffer of its own.
    """

    model: Model
    graph: GraphView
    constants: Constants
    roles: Roles
    steps: tuple[Step, ...]
    host: Mapping[str, AnyArray]
    folded: Mapping[str, AnyArray]
    aliases: Mapping[str, str]
    declared: Mapping[str, torch.dtype]

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self


def inlined(model: Model) -> Model:
    """The model with its own functions written out."""
    if not model.proto.functions:
        return model
    return replace(model, proto=onnx.inliner.inline_local_functions(model.proto), is_stored=False)


def _stored_names(model: Model) -> frozenset[str]:
    return frozenset(Constants(model, view(model.proto)).names())


def compile_model(model: Model) -> Program:
    """Compiles a model.

    Args:
        model: The model.

    Returns:
        Its program.

    Raises:
        UnsupportedError: An operator has no entry in the table.
    """
    stored = _stored_names(model)
    model = inlined(model)
    graph = view(model.proto)
    constants = Constants(model, graph)
    roles = find_roles(graph, constants)
    # what sits in a function's body has no place of its own to be written back to
    roles = replace(roles, parameters=roles.parameters & stored)
    fixed = _fixed_constants(constants, graph, roles)
    nodes = _live_nodes(graph, constants, fixed)
    _refuse_missing(nodes)
    read = {name for node in nodes for name in node.inputs if name} | set(graph.outputs)
    folded = {name: constants.array(name) for name in sorted(read & fixed)}
    return Program(
        model=model,
        graph=graph,
        constants=constants,
        roles=roles,
        steps=_steps(nodes, graph, model),
        host=_host_values(constants, roles, read, folded),
        folded=folded,
        aliases=_aliases(roles),
        declared={
            output.name: DTYPES[output.type.tensor_type.elem_type]
            for output in model.proto.graph.output
            if output.type.tensor_type.elem_type in DTYPES
        },
    )


def missing(model: Model) -> tuple[str, ...]:
    """Operators of a model that the table lacks, as `operator` or `domain.operator`, sorted."""
    model = inlined(model)
    graph = view(model.proto)
    constants = Constants(model, graph)
    fixed = _fixed_constants(constants, graph, find_roles(graph, constants))
    nodes = _live_nodes(graph, constants, fixed)
    return tuple(sorted({_spelled(node) for node in nodes if _is_missing(node)}))


def _is_missing(node: NodeView) -> bool:
    return (node.domain, node.op_type) not in OPERATORS


def _spelled(node: NodeView) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _refuse_missing(nodes: Iterable[NodeView]) -> None:
    lacking = [node for node in nodes if _is_missing(node)]
    if not lacking:
        return
    names = sorted({_spelled(node) for node in lacking})
    raise UnsupportedError(
        f"node {lacking[0].name}: operator {_spelled(lacking[0])} has no PyTorch function"
        + (f" (the model lacks {', '.join(names)})" if len(names) > 1 else "")
        + f"; {ADDING}"
    )


def _fixed_constants(constants: Constants, graph: GraphView, roles: Roles) -> frozenset[str]:
    """Computed constants that no parameter and no running statistic goes into."""
    moving = set(roles.parameters) | set(roles.statistics) | set(roles.statistics.values())
    fixed = set()
    for node in graph.nodes:
        name = node.outputs[0] if node.outputs else ""
        if name not in constants or not constants.is_derived(name) or constants.is_generated(name):
            continue
        if name in moving or any(operand in moving for operand in node.inputs):
            moving.add(name)
        else:
            fixed.add(name)
    return frozenset(fixed)


def _live_nodes(
    graph: GraphView, constants: Constants, fixed: frozenset[str]
) -> tuple[NodeView, ...]:
    """Nodes that the outputs need and that compute something at run time."""
    needed, live = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if not needed.intersection(node.outputs):
            continue
        name = node.outputs[0]
        if name in fixed or (name in constants and not constants.is_derived(name)):
            continue
        if constants.is_generated(name):
            continue
        live.append(node)
        needed.update(name for name in (*node.inputs, *node.captured) if name)
    return tuple(reversed(live))


def _steps(nodes: tuple[NodeView, ...], graph: GraphView, model: Model) -> tuple[Step, ...]:
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in (*node.outputs, *node.inputs):
            last[name] = index
    forget: list[list[str]] = [[] for _ in nodes]
    for name, index in last.items():
        if name and name not in graph.outputs:
            forget[index].append(name)
    steps = []
    for index, node in enumerate(nodes):
        opset = model.opsets.get(node.domain, 1)
        steps.append(
            Step(
                node=node,
                entry=OPERATORS[node.domain, node.op_type],
                host=None if node.domain else HOST.get(node.op_type),
                ops=(make_op(node, opset, training=False), make_op(node, opset, training=True)),
                forget=tuple(forget[index]),
            )
        )
    return tuple(steps)


def _host_values(
    constants: Constants, roles: Roles, read: set[str], folded: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    """Small constants that are neither trained nor running."""
    moving = set(roles.parameters) | set(roles.statistics) | set(roles.statistics.values())
    host = {name: array for name, array in folded.items() if array.size <= MOST}
    for name in sorted(read - moving - set(host)):
        stored = name in constants and (
            not constants.is_derived(name) or constants.is_generated(name)
        )
        if stored and constants.size(name) <= MOST:
            host[name] = constants.array(name)
    return host


def _aliases(roles: Roles) -> dict[str, str]:
    """Running statistics that need buffers of their own.

    Exporters store equal tensors once and hide the others behind Identity. Two batch
    normalisations must not run the same statistics, nor run a parameter.
    """
    readers: dict[str, list[str]] = {}
    for name, source in roles.statistics.items():
        readers.setdefault(source, []).append(name)
    return {
        name: source
        for name, source in roles.statistics.items()
        if source in roles.parameters or (len(readers[source]) > 1 and name != source)
    }
