"""Budget -> plan: pools, curves, counts, picks, absorption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_scsp.config import AUTO, PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.describe import AFFINITIES, CRITERIA, Affinity, Criterion
from onnx_scsp.errors import ConfigError, ModelError
from onnx_scsp.graph.shapes import spelled
from onnx_scsp.observe import Evidence
from onnx_scsp.observe.layers import LINEAR
from onnx_scsp.partition import CLUSTERERS, Clusterer
from onnx_scsp.plan.absorb import COMPENSATORS, Compensator
from onnx_scsp.plan.cost import Pool
from onnx_scsp.plan.counts import Allocation, Chosen, Progress, Task, allocate
from onnx_scsp.plan.latency import LayerClock
from onnx_scsp.plan.method import Method
from onnx_scsp.plan.methods import METHODS
from onnx_scsp.plan.ranking import rankings
from onnx_scsp.plan.tables import describe, with_activity
from onnx_scsp.timing import MachineTable, shipped_table
from onnx_scsp.types import FloatArray, FreezeReason, GroupCut, IntArray, PrunePlan
from onnx_scsp.units import UnitTable

SCHEMA = 1
Observer = Callable[[Sequence[IntArray]], Evidence]
"""Global numbers of the units of every pool -> what calibration inputs say about them."""


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """The tables that options name entries of; extend a copy to add your own.

    Attributes:
        methods: How many units stay, and which.
        clusterers: Who belongs together.
        criteria: What a unit is worth; each is a method, too.
        affinities: Who is like whom.
        compensators: Who takes over whom.
        importance: Constant -> one score per channel that it makes, for the criterion `importance`.
    """

    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    clusterers: Mapping[str, Clusterer] = field(default_factory=lambda: CLUSTERERS)
    criteria: Mapping[str, Criterion] = field(default_factory=lambda: CRITERIA)
    affinities: Mapping[str, Affinity] = field(default_factory=lambda: AFFINITIES)
    compensators: Mapping[str, Compensator] = field(default_factory=lambda: COMPENSATORS)
    importance: Mapping[str, FloatArray] = field(default_factory=dict)


def plan_cuts(
    coupling: Coupling,
    config: PruneConfig,
    *,
    choices: Choices | None = None,
    observe: Observer | None = None,
    machine: MachineTable | None = None,
    clock: LayerClock | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> PrunePlan:
    """Decides which units stay.

    Args:
        coupling: The model's groups.
        config: Budget and method.
        choices: The tables of methods, clusterers, criteria and compensators.
        observe: What calibration inputs say about pools of units, where there are such inputs.
        machine: What widths cost, for `align` = `auto`; the shipped table where None.
        clock: How long layers take, for the target `latency`.
        progress: Called as work goes on.

    Returns:
        The plan.

    Raises:
        ModelError: There is nothing to prune.
        ConfigError: The method is unknown.
        BudgetError: The budget is below the reachable floor.
    """
    config = config.resolved(has_data=observe is not None)
    choices = choices or Choices()
    chosen = _choose(config, choices)
    if not coupling.map.groups or not coupling.macs:
        raise ModelError(_nothing_to_prune(coupling))
    tables = describe(coupling, choices.importance, progress)
    for place, table in enumerate(tables):
        # what a criterion lacks is said before anything is observed
        chosen.method.worth(table, chosen.tools(place))
    if observe is not None:
        units = [table.units + coupling.offsets[table.group] for table in tables]
        evidence = observe(units)
        chosen = replace(chosen, evidence=evidence)
        tables = [with_activity(t, found) for t, found in zip(tables, evidence.pools, strict=True)]
    tables = [replace(table, features=chosen.affinity(table)) for table in tables]
    if config.align == AUTO and machine is None:
        machine = shipped_table()
    task = Task(coupling, config, chosen, tables, machine, clock)
    choice, counts = allocate(task, progress)
    picked = [
        _pick(pool, table, count, config, chosen, progress, place, len(tables))
        for place, (pool, table, count) in enumerate(zip(choice.pools, tables, counts, strict=True))
    ]
    cuts = _cuts(coupling, choice.pools, tables, picked)
    return PrunePlan(
        schema=SCHEMA,
        model_sha256=coupling.map.model_sha256,
        config=config.as_dict(),
        cuts=cuts,
        groups=coupling.map.groups,
        frozen=coupling.map.frozen,
        timing=_timing(task, choice),
    )


def _timing(task: Task, choice: Allocation) -> dict[str, Any]:
    """What the plan owes to timings, so that it says so wherever it goes."""
    if not isinstance(task.align, MachineTable):
        return {}
    table = task.align
    widths: dict[str, list[dict[str, Any]]] = {}
    for pool in choice.pools:
        entry: dict[str, Any] = {"units": pool.size, "step": pool.step}
        if pool.widths is not None:
            entry = {"units": pool.size, "kinds": list(pool.widths.kinds)}
            if pool.widths.counts is None:
                entry["step"] = pool.widths.step
            else:
                entry["counts"] = list(pool.allowed)
        widths.setdefault(pool.group, []).append(entry)
    return {
        "table": table.sha256,
        "origin": table.origin,
        "processor": table.processor,
        "onnxruntime": table.onnxruntime,
        "threads": table.threads,
        "provider": table.provider,
        "relaxed": choice.relaxed,
        "widths": widths,
    }


def _choose(config: PruneConfig, choices: Choices) -> Chosen:
    methods = {**rankings(choices.criteria), **choices.methods}
    wanted: tuple[tuple[str, str, Mapping[str, object]], ...] = (
        ("method", config.method, methods),
        ("clusterer", config.clusterer, choices.clusterers),
        ("criterion", config.criterion, choices.criteria),
        ("affinity", config.affinity, choices.affinities),
        ("compensate", config.compensate, choices.compensators),
    )
    for option, name, table in wanted:
        if name not in table:
            raise ConfigError(f"--{option} '{name}' is unknown; use one of {', '.join(table)}")
    if choices.importance and "importance" not in (config.method, config.criterion):
        raise ConfigError(
            "scores of importance are given, and neither --method nor --criterion is importance"
        )
    return Chosen(
        methods[config.method],
        choices.clusterers[config.clusterer],
        choices.criteria[config.criterion],
        choices.affinities[config.affinity],
        choices.compensators[config.compensate],
        config.seed,
        choices.criteria,
    )


def _lost(coupling: Coupling) -> str:
    """A layer whose sizes do not work out, '' where there is none."""
    walk = coupling.walk
    for node in walk.graph.nodes:
        is_layer = not node.domain and node.op_type in LINEAR and node.input(1) in walk.constants
        if is_layer and 0 in walk.walker.shapes.get(node.outputs[0], (0,)):
            return node.name
    return ""


def _nothing_to_prune(coupling: Coupling) -> str:
    lost = _lost(coupling)
    if lost and (not coupling.map.frozen or not coupling.macs):
        tried = spelled(coupling.walk.specs)
        return f"nothing to prune at {tried}: '{lost}' does not run there; try --input-shape"
    if not coupling.map.frozen:
        return "the model has no Conv, Gemm or MatMul layer with constant weights: nothing to prune"
    # Every network ends in an output: what else holds channels says more.
    inner = [
        entry for entry in coupling.map.frozen if entry.reason is not FreezeReason.GRAPH_OUTPUT
    ]
    worst = max(inner or coupling.map.frozen, key=coupling.map.macs_at_stake)
    return (
        f"nothing to prune: every layer's channels are held, most of all by {worst.node}: "
        f"{worst.detail}; `onnx-scsp inspect` lists everything that holds them"
    )


@dataclass(frozen=True, slots=True)
class _Picked:
    """What becomes of one pool: units that stay, who takes over whom, and energy that is lost."""

    keep: tuple[int, ...]
    taken: Mapping[int, int]
    scales: Mapping[int, float]
    lost: float
    criterion: str = ""


def _pick(
    pool: Pool,
    table: UnitTable,
    count: int,
    config: PruneConfig,
    chosen: Chosen,
    progress: Progress,
    place: int,
    total: int,
) -> _Picked:
    progress("choosing channels", place, total)
    if count == pool.size:
        return _Picked(tuple(pool.units.tolist()), {}, {}, 0.0)
    if count == 0:
        return _Picked((), {}, {}, float(table.energy.sum()))
    pick = chosen.method.pick(table, count, chosen.tools(place))
    taken: dict[int, int] = {}
    scales: dict[int, float] = {}
    if pool.can_merge:
        taken, scales = chosen.compensate(table, pick, config.merge_threshold)
    gone = np.setdiff1d(np.arange(table.n_units), pick.keep)
    lost = [row for row in gone if int(table.units[row]) not in taken]
    kept = tuple(table.units[pick.keep].tolist())
    return _Picked(kept, taken, scales, float(table.energy[lost].sum()), pick.criterion)


def _cuts(
    coupling: Coupling, pools: list[Pool], tables: list[UnitTable], picked: list[_Picked]
) -> tuple[GroupCut, ...]:
    cuts = []
    for group in coupling.map.groups:
        mine = [place for place, pool in enumerate(pools) if pool.group == group.id]
        found = [picked[place] for place in mine]
        keep = sorted(unit for entry in found for unit in entry.keep)
        if len(keep) == group.n_units:
            continue
        whole = sum(float(tables[place].energy.sum()) for place in mine)
        lost = sum(entry.lost for entry in found)
        cuts.append(
            GroupCut(
                group=group.id,
                n_units=group.n_units,
                keep=tuple(keep),
                absorbed_by={r: s for entry in found for r, s in sorted(entry.taken.items())},
                scales={r: s for entry in found for r, s in sorted(entry.scales.items())},
                score=round(lost / whole, 6) if whole > 0 else 0.0,
                criterion=" ".join(sorted({e.criterion for e in found} - {""})),
            )
        )
    return tuple(cuts)
