"""Runs channel labels through the graph, node by node, collecting facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.couple.shuffles import Shuffle, find_shuffles
from onnx_scsp.graph.branches import find_routes
from onnx_scsp.graph.constants import FLOATS, FOLDABLE, Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.routes import Routes
from onnx_scsp.graph.session import observe_shapes
from onnx_scsp.graph.shapes import InputSpec, Walker, input_specs
from onnx_scsp.graph.view import GraphView, NodeView, view
from onnx_scsp.ops.rule import RuleTable
from onnx_scsp.ops.site import Facts, FreezeFact, Labelled, Site
from onnx_scsp.types import FreezeReason


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The result of one walk.

    Attributes:
        graph: View of the model's graph.
        constants: Its constants.
        specs: Inputs with concrete shapes.
        walker: Shapes and small values of every activation.
        shadow: The same under other stand-ins for dynamic axes.
        is_static: Value name -> whether its known value is free of dynamic axes.
        facts: What the rules stated.
        ops_without_rule: Operators that occur and have no rule, sorted.
        shuffles: Channel shuffles, in graph order.
    """

    graph: GraphView
    constants: Constants
    specs: tuple[InputSpec, ...]
    walker: Walker
    shadow: Walker
    is_static: Mapping[str, bool]
    facts: Facts
    ops_without_rule: tuple[str, ...]
    shuffles: tuple[Shuffle, ...]


def walk(
    model: Model,
    rules: RuleTable,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Walk:
    """Labels every activation of the model.

    Args:
        model: The model.
        rules: Operator rules.
        input_shapes: Shapes for inputs with dynamic axes.

    Returns:
        Facts and shapes.
    """
    graph = view(model.proto)
    constants = Constants(model, graph)
    specs = input_specs(model, graph, constants, input_shapes)
    routes = find_routes(model, graph, constants)
    walker = shape_walk(model, graph, constants, specs, routes)
    other = input_specs(model, graph, constants, input_shapes, variant=1)
    shadow = Walker(model, constants, other, routes)
    for node in graph.nodes:
        shadow.advance(node)
    is_static = {
        name: _same(value, shadow.values.get(name)) for name, value in walker.values.items()
    }
    shuffles = find_shuffles(graph, walker.shapes)
    inside = frozenset(name for shuffle in shuffles for name in shuffle.inside)
    facts = Facts(inside_shuffles=inside, routes=routes)
    _label_inputs(specs, facts)
    missing: set[str] = set()
    local = {(function.domain, function.name) for function in model.proto.functions}
    # a function of the file may bear the name of a known operator and do something else
    known = {key: rule for key, rule in rules.items() if key not in local}
    for node in graph.nodes:
        site = Site(node, facts, walker, constants, model.opsets, is_static)
        _visit(site, known, constants, walker, missing)
    _freeze_outputs(graph, facts)
    _freeze_other_uses(graph, constants, facts)
    return Walk(
        graph, constants, specs, walker, shadow, is_static, facts, tuple(sorted(missing)), shuffles
    )


def shape_walk(
    model: Model,
    graph: GraphView,
    constants: Constants,
    specs: tuple[InputSpec, ...],
    routes: Routes,
) -> Walker:
    """Concrete shapes; where inference does not know an operator, the runtime is asked once."""
    walker = Walker(model, constants, specs, routes)
    for node in graph.nodes:
        walker.advance(node)
    unknown = [
        name for node in graph.nodes for name in node.outputs if name and name not in walker.shapes
    ]
    if unknown:
        for name, (shape, elem_type) in observe_shapes(model, specs, unknown).items():
            walker.observe(name, shape, elem_type)
        for node in graph.nodes:
            walker.advance(node)
    return walker


def _same(value: object, other: object) -> bool:
    return other is not None and bool(np.array_equal(np.asarray(value), np.asarray(other)))


def _label_inputs(specs: tuple[InputSpec, ...], facts: Facts) -> None:
    for spec in specs:
        label = facts.fresh(1)
        facts.activations[spec.name] = Labelled(spec.shape, label.reshape((1,) * len(spec.shape)))
        _freeze(facts, label, FreezeReason.GRAPH_INPUT, spec.name, "channels of a graph input")


def _freeze_outputs(graph: GraphView, facts: Facts) -> None:
    for name in graph.outputs:
        if name in facts.activations:
            labels = facts.activations[name].labels
            _freeze(facts, labels, FreezeReason.GRAPH_OUTPUT, name, "channels of a graph output")


def _freeze_other_uses(graph: GraphView, constants: Constants, facts: Facts) -> None:
    """A constant that is also read where no rule saw its channels cannot be cut."""
    seen: dict[str, set[str]] = {}
    for fact in facts.members:
        seen.setdefault(fact.source.name, set()).add(fact.use)
    strangers = {name: _uses(graph, constants, name) - uses for name, uses in seen.items()}
    for fact in facts.members:
        if strangers[fact.source.name]:
            where = min(strangers[fact.source.name])
            detail = f"'{fact.source.name}' is also read elsewhere ({where})"
            _freeze(facts, fact.labels, FreezeReason.SHARED_WEIGHT, fact.source.name, detail)


def _uses(graph: GraphView, constants: Constants, name: str) -> set[str]:
    """`node:input` places that read a constant, looking through views of it."""
    uses = {f"output {name}"} if name in graph.outputs else set()
    for node in graph.consumers.get(name, ()):
        if name in node.captured:
            uses.add(f"subgraph of {node.name}")
        for place, operand in enumerate(node.inputs):
            if operand != name:
                continue
            output = node.outputs[0]
            # the other operands of a view (axes, scales) are read right here
            if place == 0 and output in constants and constants.source(output).name != output:
                uses |= _uses(graph, constants, output)
            else:
                uses.add(f"{node.index}:{place}")
    return uses


def _freeze(facts: Facts, labels: object, reason: FreezeReason, where: str, detail: str) -> None:
    facts.freezes.append(FreezeFact(np.unique(np.asarray(labels)), reason, where, detail))


def _visit(
    site: Site, rules: RuleTable, constants: Constants, walker: Walker, missing: set[str]
) -> None:
    node, facts = site.node, site.facts
    incoming = [name for name in (*node.inputs, *node.captured) if name in facts.activations]
    rule = rules.get((node.domain, node.op_type))
    if not incoming:
        if rule is not None and _spreads_constant(node, constants, walker):
            rule.couple(site)
        elif _makes_data(node, constants, walker):
            site.emit_frozen(FreezeReason.NO_PRODUCER, "makes values from no channels")
        return
    if all(name in walker.values or not name for name in node.outputs):
        return  # shape arithmetic: follows the cut by itself, or is mended where it is used
    unknown = [n for n in (*node.inputs, *node.outputs) if n and n not in walker.shapes]
    unlabelled = [
        n
        for n in node.inputs
        if n and n not in facts.activations and n not in constants and n not in walker.values
    ]
    if node.has_body and node.index not in facts.routes:
        _refuse(site, incoming, FreezeReason.SUBGRAPH, "hands channels to a subgraph")
    elif rule is None:
        missing.add(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)
        _refuse(site, incoming, FreezeReason.NO_RULE, _why_no_rule(node))
    elif unknown or unlabelled:
        name = (unknown or unlabelled)[0]
        _refuse(site, incoming, FreezeReason.UNKNOWN_SHAPE, f"shape of '{name}' is unknown")
    else:
        rule.couple(site)


def _why_no_rule(node: NodeView) -> str:
    if node.domain == "com.microsoft.nchwc":
        return (
            f"{node.op_type} has its channels laid out for one processor; prune the model as it "
            "was before the runtime's layout optimisation"
        )
    return (
        f"operator {node.op_type} has no rule (docs/coupling.md shows how to add one; a function "
        "of the file can be inlined with onnx.inliner instead)"
        if node.domain
        else f"operator {node.op_type} has no rule (docs/coupling.md shows how to add one)"
    )


def _spreads_constant(node: NodeView, constants: Constants, walker: Walker) -> bool:
    """Whether real numbers are repeated as often as the run demands: a token, a first state."""
    name = node.outputs[0]
    if name in constants or name not in walker.shapes or walker.types.get(name) not in FLOATS:
        return False
    expands = node.op_type == "Expand" and node.inputs[0] in constants
    return not node.domain and (expands or node.op_type == "ConstantOfShape")


def _makes_data(node: NodeView, constants: Constants, walker: Walker) -> bool:
    """Whether a node without labelled inputs yields data (not a constant, not shape arithmetic)."""
    return not (
        node.op_type == "Constant"
        or all(name in constants or name in walker.values or not name for name in node.outputs)
        or (node.op_type in FOLDABLE and any(name in walker.values for name in node.inputs))
    )


def _refuse(site: Site, incoming: list[str], reason: FreezeReason, detail: str) -> None:
    for name in incoming:
        site.freeze(site.facts.activations[name].labels, reason, detail)
    site.emit_frozen(reason, detail)
