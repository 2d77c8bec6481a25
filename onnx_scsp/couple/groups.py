"""From closed facts to channel groups: units, members, profiles, reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np

from onnx_scsp.couple.census import (
    CostTerm,
    count_params,
    floor_macs,
    list_layers,
    macs_by_group,
    whole_macs,
)
from onnx_scsp.couple.chains import find_chains
from onnx_scsp.couple.close import Closure, close
from onnx_scsp.couple.components import Edges, components
from onnx_scsp.couple.cover import Demand, find_demands
from onnx_scsp.couple.profiles import by_first_use, profiles
from onnx_scsp.couple.reductions import reductions_by_group
from onnx_scsp.couple.walk import Walk, walk
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.ops import RULES
from onnx_scsp.ops.rule import RuleTable
from onnx_scsp.ops.site import FreezeFact, MemberFact
from onnx_scsp.types import (
    ChannelGroup,
    FreezeReason,
    Frozen,
    GroupMap,
    IntArray,
    Member,
    Role,
    read_only,
)

_TOGETHER = "all its channels can only be removed together"
_ELEMENT_MACS = 32
"""Writing and reading an element of an activation takes about as long as so many MACs."""


@dataclass(frozen=True, slots=True, eq=False)
class Coupling:
    """A model's groups together with what surgery and planning need to follow a cut.

    Units are numbered globally: group by group, in order.

    Attributes:
        model: The model.
        map: The public records.
        walk: Shapes, values and views from the walk.
        offsets: Group id -> global number of its first unit.
        n_units: Number of units over all groups.
        activations: Value name -> array of global units (-1 stays), axes full or of size 1.
        tensors: Constant name -> use ('' for all) -> axis -> array of global units; 2-D where the
            equal parts of another axis (`across`) are cut at other places each.
        across: Constant name -> that axis, for constants that have such an array.
        costs: MACs terms.
        demands: Sets of units of which one has to stay, lest an axis be left empty.
    """

    model: Model
    map: GroupMap
    walk: Walk
    offsets: Mapping[str, int]
    n_units: int
    activations: Mapping[str, IntArray]
    tensors: Mapping[str, Mapping[str, Mapping[int, IntArray]]]
    across: Mapping[str, int]
    costs: tuple[CostTerm, ...]
    demands: tuple[Demand, ...]

    @property
    def macs(self) -> int:
        """MACs per run at the concrete input shapes."""
        return self.map.macs

    @property
    def elements(self) -> int:
        """Elements of all activations of a run at these shapes."""
        shapes, constants = self.walk.walker.shapes, self.walk.constants
        return sum(math.prod(shape) for name, shape in shapes.items() if name not in constants)

    @property
    def batch(self) -> int:
        """Samples of a run at these shapes."""
        specs = self.walk.specs
        return max(specs[0].shape[0], 1) if specs and specs[0].shape else 1

    @property
    def work(self) -> float:
        """About what a sample costs, in MACs; small networks spend their time on elements."""
        return max((self.macs + _ELEMENT_MACS * self.elements) / self.batch, 1.0)


def find_coupling(
    model: Model,
    *,
    rules: RuleTable = RULES,
    ignore: tuple[str, ...] = (),
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Coupling:
    """Finds which channels of a model can only be removed together.

    Args:
        model: The model.
        rules: Operator rules.
        ignore: Patterns of node or tensor names whose channels stay.
        input_shapes: Shapes for inputs with dynamic axes.

    Returns:
        Groups, reasons and the label arrays behind them.

    Raises:
        ConfigError: An ignore pattern matches nothing.
    """
    walked = walk(model, rules, input_shapes)
    _apply_ignore(walked, ignore)
    closure = close(walked.facts)
    unit_of = closure.unit_of
    group_of, n_groups = _group_classes(walked, closure)
    number, offsets_list, sizes = _number_units(group_of, n_groups, unit_of)
    global_of = np.where(number >= 0, number, -1)[unit_of] if unit_of.size else unit_of
    activations = {
        name: read_only(global_of[x.labels]) for name, x in walked.facts.activations.items()
    }
    members = _merge_members(walked.facts.members, global_of)
    costs = tuple(
        CostTerm(c.node, c.coefficient, tuple(global_of[v] for v in c.vectors))
        for c in walked.facts.costs
    )
    chains = find_chains(walked)
    ids = [f"g{index:0{max(2, len(str(n_groups)))}d}" for index in range(n_groups)]
    offsets = dict(zip(ids, offsets_list, strict=True))
    across = {f.source.name: f.across for f in walked.facts.members if f.across >= 0}
    groups = _groups(
        walked, closure, members, across, costs, ids, offsets_list, sizes, global_of, number
    )
    tensors = _tensors(members)
    demands = find_demands(tensors, activations, groups, offsets)
    group_map = GroupMap(
        model_sha256=model.sha256,
        groups=groups,
        frozen=_frozen(walked, closure, number),
        chains=chains,
        layers=list_layers(walked, chains, tensors, costs, np.repeat(ids, sizes)),
        ops_without_rule=walked.ops_without_rule,
        macs=whole_macs(costs),
        floor_macs=floor_macs(costs, demands, groups, offsets),
        params=count_params(walked),
    )
    return Coupling(
        model,
        group_map,
        walked,
        offsets,
        int(sum(sizes)),
        activations,
        tensors,
        across,
        costs,
        demands,
    )


def unmergeable(coupling: Coupling, group: ChannelGroup) -> str:
    """Why no unit of a group can take over another, '' where one can."""
    constants = coupling.walk.constants
    readers = (member.tensor for member in group.members if member.role is Role.READS)
    for name in readers:
        if not constants.is_float(name):
            return f"'{name}', which reads them, is quantised"
    if not group.reductions:
        return ""
    index, _ = group.reductions[0].at
    return f"{coupling.walk.graph.nodes[index].label} reads them without a weight"


def _tensors(
    members: dict[tuple[str, int, Role], dict[str, IntArray]],
) -> dict[str, dict[str, dict[int, IntArray]]]:
    """Constant name -> use -> axis -> global units."""
    tensors: dict[str, dict[str, dict[int, IntArray]]] = {}
    for (tensor, axis, _), by_use in members.items():
        for use, units in by_use.items():
            tensors.setdefault(tensor, {}).setdefault(use, {})[axis] = units
    return tensors


def find_groups(
    model: Model,
    *,
    rules: RuleTable = RULES,
    ignore: tuple[str, ...] = (),
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> GroupMap:
    """Finds a model's channel groups (the public records of `find_coupling`)."""
    return find_coupling(model, rules=rules, ignore=ignore, input_shapes=input_shapes).map


def _apply_ignore(walked: Walk, ignore: tuple[str, ...]) -> None:
    names = {str(node.index): node.name for node in walked.graph.nodes}
    for pattern in ignore:
        hit = False
        for fact in walked.facts.members:
            node = names[fact.use.split(":")[0]]
            if fact.role is not Role.READS and (
                fnmatch(node, pattern) or fnmatch(fact.source.name, pattern)
            ):
                hit = True
                walked.facts.freezes.append(
                    FreezeFact(
                        np.unique(fact.labels),
                        FreezeReason.IGNORED,
                        node,
                        f"ignored by '{pattern}'",
                    )
                )
        if not hit:
            raise ConfigError(
                f"--ignore '{pattern}' matches no layer that makes channels; "
                "see `onnx-scsp inspect` for their names"
            )


def _group_classes(walked: Walk, closure: Closure) -> tuple[IntArray, int]:
    """Group of each class (-1: none); groups are classes that share a makes axis."""
    free = np.ones(closure.n_classes, bool)
    free[list(closure.reasons)] = False
    edges: list[Edges] = []
    made = np.zeros(closure.n_classes, bool)
    order = np.full(closure.n_classes, np.iinfo(np.int64).max)
    for place, fact in enumerate(walked.facts.members):
        if fact.role is not Role.MAKES:
            continue
        classes = np.unique(closure.unit_of[fact.labels])
        classes = classes[free[classes]]
        made[classes] = True
        order[classes] = np.minimum(order[classes], place)
        edges.append((classes[:-1], classes[1:]))
    kept = free & made
    if not kept.any():
        return np.full(closure.n_classes, -1), 0
    component = components(closure.n_classes, edges)
    candidates = np.unique(component[kept])
    sized = [c for c in candidates if (kept & (component == c)).sum() > 1]
    sized.sort(key=lambda c: int(order[kept & (component == c)].min()))
    group_of = np.full(closure.n_classes, -1)
    for index, candidate in enumerate(sized):
        group_of[kept & (component == candidate)] = index
    return group_of, len(sized)


def _number_units(
    group_of: IntArray, n_groups: int, unit_of: IntArray
) -> tuple[IntArray, list[int], list[int]]:
    """Global unit number of each class, groups one after the other, classes by first label."""
    n_classes = group_of.size
    first = np.full(n_classes, unit_of.size, np.int64)
    np.minimum.at(first, unit_of, np.arange(unit_of.size))
    number = np.full(n_classes, -1, np.int64)
    offsets, sizes, start = [], [], 0
    for group in range(n_groups):
        classes = np.flatnonzero(group_of == group)
        classes = classes[np.argsort(first[classes], kind="stable")]
        number[classes] = start + np.arange(classes.size)
        offsets.append(start)
        sizes.append(int(classes.size))
        start += int(classes.size)
    return number, offsets, sizes


def _merge_members(
    facts: list[MemberFact], global_of: IntArray
) -> dict[tuple[str, int, Role], dict[str, IntArray]]:
    """(tensor, axis, role) -> use ('' where all agree) -> global units of the axis' entries."""
    merged: dict[tuple[str, int, Role], dict[str, IntArray]] = {}
    for fact in facts:
        units = _flattened(global_of[fact.labels])
        merged.setdefault((fact.source.name, fact.axis, fact.role), {})[fact.use] = units
    result: dict[tuple[str, int, Role], dict[str, IntArray]] = {}
    for key, by_use in merged.items():
        arrays = list(by_use.values())
        if all(np.array_equal(arrays[0], other) for other in arrays[1:]):
            by_use = {"": arrays[0]}
        if any((units >= 0).any() for units in by_use.values()):
            result[key] = {use: read_only(units) for use, units in by_use.items()}
    return result


def _flattened(units: IntArray) -> IntArray:
    """One row where all parts of a tensor are cut at the same places."""
    return units[0] if units.ndim == 2 and (units == units[:1]).all() else units


def _groups(
    walked: Walk,
    closure: Closure,
    members: dict[tuple[str, int, Role], dict[str, IntArray]],
    across: Mapping[str, int],
    costs: tuple[CostTerm, ...],
    ids: list[str],
    offsets: list[int],
    sizes: list[int],
    global_of: IntArray,
    number: IntArray,
) -> tuple[ChannelGroup, ...]:
    arrays = [row for fact in walked.facts.members for row in np.atleast_2d(fact.labels)]
    arrays += [x.labels for x in walked.facts.activations.values()]
    profile_of = profiles(arrays, closure, global_of, sum(sizes))
    group_of_unit = np.repeat(np.arange(len(sizes)), sizes)
    by_group: list[list[Member]] = [[] for _ in sizes]
    for (tensor, axis, role), by_use in members.items():
        for use, units in by_use.items():
            for group in np.unique(group_of_unit[units[units >= 0]]):
                local = np.where(
                    (units >= 0) & (group_of_unit[units] == group), units - offsets[group], -1
                )
                uses = (use,) if use else ()
                part = across[tensor] if local.ndim == 2 else -1
                by_group[group].append(Member(tensor, axis, role, read_only(local), uses, part))
    reductions = reductions_by_group(walked.facts.reductions, global_of, group_of_unit, offsets)
    makers = _makers(walked, closure, number, group_of_unit, len(sizes))
    curved = set(group_of_unit[[number[c] for c in closure.curved if number[c] >= 0]].tolist())
    macs = macs_by_group(costs, group_of_unit, len(sizes))
    result = []
    for index, (name, offset, size) in enumerate(zip(ids, offsets, sizes, strict=True)):
        profile = np.unique(profile_of[offset : offset + size], return_inverse=True)[1]
        result.append(
            ChannelGroup(
                id=name,
                n_units=size,
                profile=read_only(by_first_use(profile)),
                members=tuple(by_group[index]),
                layers=tuple(makers[index]),
                homogeneous=index not in curved,
                macs=macs[index],
                reductions=tuple(reductions.get(index, ())),
            )
        )
    return tuple(result)


def _makers(
    walked: Walk, closure: Closure, number: IntArray, group_of_unit: IntArray, n_groups: int
) -> list[list[str]]:
    names = [node.name for node in walked.graph.nodes]
    makers: list[list[str]] = [[] for _ in range(n_groups)]
    for fact in walked.facts.members:
        if fact.role is Role.MAKES:
            units = number[np.unique(closure.unit_of[fact.labels])]
            for group in np.unique(group_of_unit[units[units >= 0]]):
                makers[group].append(names[int(fact.use.split(":")[0])])
    return makers


def _frozen(walked: Walk, closure: Closure, number: IntArray) -> tuple[Frozen, ...]:
    """One record per obstacle, with the layers whose filters it blocks."""
    names = [node.label for node in walked.graph.nodes]
    layers = [node.name for node in walked.graph.nodes]
    blocked: dict[tuple[FreezeReason, str, str], list[str]] = {}
    for fact in walked.facts.members:
        if fact.role is not Role.MAKES:
            continue
        index = int(fact.use.split(":")[0])
        classes = np.unique(closure.unit_of[fact.labels])
        stuck = classes[number[classes] < 0]
        reasons = {
            (fact_.reason, fact_.node, fact_.detail)
            for unit in stuck
            for fact_ in closure.reasons.get(int(unit), ())
        }
        if stuck.size and not reasons:
            detail = "its only channel" if fact.labels.size == 1 else _TOGETHER
            reasons = {(FreezeReason.SINGLE_UNIT, names[index], detail)}
        for key in sorted(reasons):
            blocked.setdefault(key, []).append(layers[index])
    for held in walked.facts.held:
        key = (held.reason, names[held.index], held.detail)
        blocked.setdefault(key, []).append(layers[held.index])
    return tuple(
        Frozen(reason, node, detail, tuple(dict.fromkeys(found)))
        for (reason, node, detail), found in blocked.items()
    )
