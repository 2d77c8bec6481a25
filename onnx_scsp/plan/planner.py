"""Budget -> plan: pools, curves, counts, picks, absorption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.describe import CRITERIA, Criterion, unit_tables
from onnx_scsp.errors import BudgetError, ConfigError, ModelError
from onnx_scsp.observe import Evidence
from onnx_scsp.partition import CLUSTERERS, Clusterer
from onnx_scsp.plan.absorb import COMPENSATORS, Compensator
from onnx_scsp.plan.allocate import by_budget, by_ratio, smallest
from onnx_scsp.plan.cost import CostModel, Pool, macs_model, make_pools, params_model
from onnx_scsp.plan.methods import METHODS, Method, Tools
from onnx_scsp.types import FloatArray, GroupCut, IntArray, PrunePlan, UnitTable

SCHEMA = 1
Observer = Callable[[Sequence[IntArray]], Evidence]
"""Global numbers of the units of every pool -> what calibration inputs say about them."""
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """The tables that options name entries of; extend a copy to add your own."""

    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    clusterers: Mapping[str, Clusterer] = field(default_factory=lambda: CLUSTERERS)
    criteria: Mapping[str, Criterion] = field(default_factory=lambda: CRITERIA)
    compensators: Mapping[str, Compensator] = field(default_factory=lambda: COMPENSATORS)


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """The entries that a configuration names."""

    method: Method
    cluster: Clusterer
    criterion: Criterion
    compensate: Compensator
    seed: int
    evidence: Evidence | None = None

    def tools(self, place: int) -> Tools:
        found = self.evidence.pools[place] if self.evidence is not None else None
        rng = np.random.default_rng([self.seed, place])
        return Tools(self.cluster, self.criterion, rng, found)


def plan_cuts(
    coupling: Coupling,
    config: PruneConfig,
    *,
    choices: Choices | None = None,
    observe: Observer | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> PrunePlan:
    """Decides which units stay.

    Args:
        coupling: The model's groups.
        config: Budget and method.
        choices: The tables of methods, clusterers, criteria and compensators.
        observe: What calibration inputs say about pools of units, where there are such inputs.
        progress: Called as work goes on.

    Returns:
        The plan.

    Raises:
        ModelError: There is nothing to prune.
        ConfigError: The method is unknown.
        BudgetError: The budget is below the reachable floor.
    """
    config = config.resolved(has_data=observe is not None)
    chosen = _choose(config, choices or Choices())
    if not coupling.map.groups:
        raise ModelError(_nothing_to_prune(coupling))
    pools = make_pools(coupling, config.align, config.min_share)
    tables = _tables(coupling, progress)
    if observe is not None:
        chosen = replace(chosen, evidence=observe([pool.global_units for pool in pools]))
    counts = _counts(coupling, config, chosen, pools, tables, progress)
    picked = [
        _pick(pool, table, count, config, chosen, progress, place, len(pools))
        for place, (pool, table, count) in enumerate(zip(pools, tables, counts, strict=True))
    ]
    cuts = _cuts(coupling, pools, picked)
    return PrunePlan(
        schema=SCHEMA,
        model_sha256=coupling.map.model_sha256,
        config=config.as_dict(),
        cuts=cuts,
        groups=coupling.map.groups,
        frozen=coupling.map.frozen,
    )


def _choose(config: PruneConfig, choices: Choices) -> _Chosen:
    wanted: tuple[tuple[str, str, Mapping[str, object]], ...] = (
        ("method", config.method, choices.methods),
        ("clusterer", config.clusterer, choices.clusterers),
        ("criterion", config.criterion, choices.criteria),
        ("compensate", config.compensate, choices.compensators),
    )
    for option, name, table in wanted:
        if name not in table:
            raise ConfigError(f"--{option} '{name}' is unknown; use one of {', '.join(table)}")
    return _Chosen(
        choices.methods[config.method],
        choices.clusterers[config.clusterer],
        choices.criteria[config.criterion],
        choices.compensators[config.compensate],
        config.seed,
    )


def _nothing_to_prune(coupling: Coupling) -> str:
    if not coupling.map.frozen:
        return "the model has no Conv, Gemm or MatMul layer with constant weights: nothing to prune"
    first = coupling.map.frozen[0]
    return (
        f"nothing to prune: every layer's channels are held, first of all by {first.node}: "
        f"{first.detail}"
    )


def _tables(coupling: Coupling, progress: Progress) -> list[UnitTable]:
    tables: list[UnitTable] = []
    groups, constants = coupling.map.groups, coupling.walk.constants
    for done, group in enumerate(groups):
        progress("describing groups", done, len(groups))
        tables.extend(
            unit_tables(group, coupling.map.chains, constants.real, constants.code_tensors)
        )
    progress("describing groups", len(groups), len(groups))
    return tables


def _counts(
    coupling: Coupling,
    config: PruneConfig,
    chosen: _Chosen,
    pools: list[Pool],
    tables: list[UnitTable],
    progress: Progress,
) -> list[int]:
    if config.target == "ratio":
        return by_ratio(pools, config.value)
    cost = (macs_model if config.target == "macs" else params_model)(coupling, pools)
    whole = cost.total(np.array([pool.size for pool in pools], float))
    _check_floor(coupling, config, cost, pools, whole)
    curves = []
    for done, (pool, table) in enumerate(zip(pools, tables, strict=True)):
        progress("measuring loss curves", done, len(tables))
        curves.append(_curve(chosen, pool, table, done))
    progress("measuring loss curves", len(tables), len(tables))
    counts = by_budget(pools, curves, cost, config.value * whole, chosen.method.per_cost)
    if counts is None:
        raise BudgetError(f"--{config.target} {config.value:g} cannot be reached")
    return counts


def _curve(chosen: _Chosen, pool: Pool, table: UnitTable, place: int) -> FloatArray:
    """Damage over the number of units that stay; what was observed outweighs any estimate."""
    tools = chosen.tools(place)
    if tools.evidence is not None and chosen.method.per_cost:
        return tools.evidence.damage
    curve = chosen.method.curve(table, tools)
    return _damage(curve, pool.n_readers) if chosen.method.per_cost else curve


def _damage(curve: FloatArray, n_readers: int) -> FloatArray:
    """Lost share of signal -> -n_readers log(kept share).

    Kept shares multiply along the network, and what a pool loses, the units of a residual spine
    above all, it loses at each of its readers.
    """
    return -float(n_readers) * np.log(np.clip(1.0 - curve, 1e-9, 1.0))


def _check_floor(
    coupling: Coupling, config: PruneConfig, cost: CostModel, pools: list[Pool], whole: float
) -> None:
    floor = cost.total(smallest(pools)) / whole
    if floor <= config.value:
        return
    bottom = cost.total(np.ones(len(pools))) / whole
    advice = (
        f"lower --min-share or --align (with one channel left per group {bottom:.3f} remains)"
        if bottom <= config.value
        else f"even with one channel left per group {bottom:.3f} remains; {_blockers(coupling)}"
    )
    raise BudgetError(
        f"--{config.target} {config.value:g} cannot be reached: at least {floor:.3f} remains "
        f"with --min-share {config.min_share:g} and --align {config.align}; {advice}"
    )


def _blockers(coupling: Coupling) -> str:
    by_layer: dict[str, float] = {}
    for term in coupling.costs:
        by_layer[term.node] = by_layer.get(term.node, 0.0) + term.macs
    total = max(sum(by_layer.values()), 1.0)
    held = [
        (sum(by_layer.get(layer, 0.0) for layer in frozen.layers) / total, frozen)
        for frozen in coupling.map.frozen
    ]
    if not held:
        return "no layer is frozen"
    share, worst = max(held, key=lambda entry: entry[0])
    return (
        f"what holds most is {worst.node} ({worst.reason.value}: {worst.detail}), "
        f"with {share:.0%} of the MACs in the layers it holds"
    )


def _pick(
    pool: Pool,
    table: UnitTable,
    count: int,
    config: PruneConfig,
    chosen: _Chosen,
    progress: Progress,
    place: int,
    total: int,
) -> tuple[list[int], dict[int, int], dict[int, float], float]:
    progress("choosing channels", place, total)
    if count == pool.size:
        return [int(unit) for unit in pool.units], {}, {}, 0.0
    pick = chosen.method.pick(table, count, chosen.tools(place))
    taken: dict[int, int] = {}
    scales: dict[int, float] = {}
    if pool.can_merge:
        taken, scales = chosen.compensate(table, pick, config.merge_threshold)
    gone = np.setdiff1d(np.arange(table.n_units), pick.keep)
    lost = [row for row in gone if int(table.units[row]) not in taken]
    whole = float(table.energy.sum())
    score = float(table.energy[lost].sum()) / whole if whole > 0 and lost else 0.0
    return [int(unit) for unit in table.units[pick.keep]], taken, scales, score


def _cuts(
    coupling: Coupling,
    pools: list[Pool],
    picked: list[tuple[list[int], dict[int, int], dict[int, float], float]],
) -> tuple[GroupCut, ...]:
    cuts = []
    for group in coupling.map.groups:
        mine = [entry for pool, entry in zip(pools, picked, strict=True) if pool.group == group.id]
        keep = sorted(unit for kept, *_ in mine for unit in kept)
        if len(keep) == group.n_units:
            continue
        cuts.append(
            GroupCut(
                group=group.id,
                n_units=group.n_units,
                keep=tuple(keep),
                absorbed_by={r: s for _, taken, _, _ in mine for r, s in sorted(taken.items())},
                scales={r: s for _, _, scales, _ in mine for r, s in sorted(scales.items())},
                score=round(max(score for *_, score in mine), 6),
            )
        )
    return tuple(cuts)
