"""Budget -> plan: pools, curves, counts, picks, absorption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.describe import AFFINITIES, CRITERIA, Affinity, Criterion
from onnx_scsp.errors import BudgetError, ConfigError, ModelError
from onnx_scsp.observe import Evidence
from onnx_scsp.partition import CLUSTERERS, Clusterer
from onnx_scsp.plan.absorb import COMPENSATORS, Compensator
from onnx_scsp.plan.allocate import by_budget, by_ratio, smallest
from onnx_scsp.plan.cost import CostModel, Pool, macs_model, make_pools, params_model
from onnx_scsp.plan.lots import Lot, make_lots, spread
from onnx_scsp.plan.method import Method, Ranking, Tools
from onnx_scsp.plan.methods import METHODS
from onnx_scsp.plan.needs import Needs, find_needs
from onnx_scsp.plan.ranking import rankings
from onnx_scsp.plan.tables import describe, with_activity
from onnx_scsp.types import FloatArray, GroupCut, IntArray, PrunePlan
from onnx_scsp.units import UnitTable

SCHEMA = 1
Observer = Callable[[Sequence[IntArray]], Evidence]
"""Global numbers of the units of every pool -> what calibration inputs say about them."""
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


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


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """The entries that a configuration names."""

    method: Method
    cluster: Clusterer
    criterion: Criterion
    affinity: Affinity
    compensate: Compensator
    seed: int
    criteria: Mapping[str, Criterion]
    evidence: Evidence | None = None
    rankings: dict[int, dict[str, Ranking]] = field(default_factory=dict)

    def tools(self, place: int) -> Tools:
        found = self.evidence.pools[place] if self.evidence is not None else None
        rng = np.random.default_rng([self.seed, place])
        known = self.rankings.setdefault(place, {})
        trials = self.evidence.trials if self.evidence is not None else None
        trial = partial(trials.errors, place) if trials is not None else None
        return Tools(self.cluster, self.criterion, rng, found, self.criteria, trial, known)


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
    choices = choices or Choices()
    chosen = _choose(config, choices)
    if not coupling.map.groups:
        raise ModelError(_nothing_to_prune(coupling))
    tables = describe(coupling, choices.importance, progress)
    if observe is not None:
        units = [table.units + coupling.offsets[table.group] for table in tables]
        evidence = observe(units)
        chosen = replace(chosen, evidence=evidence)
        tables = [with_activity(t, found) for t, found in zip(tables, evidence.pools, strict=True)]
    tables = [replace(table, features=chosen.affinity(table)) for table in tables]
    choice = _allocation(coupling, config, chosen, tables, config.align, config.min_share)
    counts = _counts(coupling, config, chosen, choice, tables, progress)
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
    )


def _choose(config: PruneConfig, choices: Choices) -> _Chosen:
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
    return _Chosen(
        methods[config.method],
        choices.clusterers[config.clusterer],
        choices.criteria[config.criterion],
        choices.affinities[config.affinity],
        choices.compensators[config.compensate],
        config.seed,
        choices.criteria,
    )


def _nothing_to_prune(coupling: Coupling) -> str:
    if not coupling.map.frozen:
        return "the model has no Conv, Gemm or MatMul layer with constant weights: nothing to prune"
    first = coupling.map.frozen[0]
    return (
        f"nothing to prune: every layer's channels are held, first of all by {first.node}: "
        f"{first.detail}"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Allocation:
    """What counts are chosen for, and what bounds them."""

    pools: list[Pool]
    lots: list[Lot]
    needs: Needs
    cost: CostModel
    worth: list[FloatArray]

    def total(self, counts: list[int]) -> float:
        """Cost when the lots keep this many units."""
        return self.cost.total(spread(self.lots, counts, len(self.pools)))


def _allocation(
    coupling: Coupling,
    config: PruneConfig,
    chosen: _Chosen,
    tables: list[UnitTable],
    align: int,
    min_share: float,
) -> _Allocation:
    pools = make_pools(coupling, align, min_share)
    needs = find_needs(coupling, pools, min_share)
    cost = (params_model if config.target == "params" else macs_model)(coupling, pools)
    worth = [chosen.method.worth(table, chosen.tools(p)) for p, table in enumerate(tables)]
    whole = np.array([pool.size for pool in pools], float)
    saved = cost.gradient(whole) if chosen.method.per_cost else np.ones(len(pools))
    return _Allocation(pools, make_lots(coupling, pools, needs, worth, saved), needs, cost, worth)


def _counts(
    coupling: Coupling,
    config: PruneConfig,
    chosen: _Chosen,
    choice: _Allocation,
    tables: list[UnitTable],
    progress: Progress,
) -> list[int]:
    """Kept units per pool."""
    lots, needs, cost = choice.lots, choice.needs, choice.cost
    if config.target == "ratio":
        counts = by_ratio(lots, config.value, needs)
        return [int(count) for count in spread(lots, counts, len(tables))]
    whole = choice.total([lot.size for lot in lots])
    _check_floor(coupling, config, chosen, choice, tables, whole)
    curves = []
    for done, lot in enumerate(lots):
        progress("measuring loss curves", done, len(lots))
        curves.append(_curve(lot, choice, tables, chosen))
    progress("measuring loss curves", len(lots), len(lots))
    limit = config.value * whole
    found = by_budget(lots, curves, cost, limit, chosen.method.per_cost, needs)
    if found is None:
        raise BudgetError(f"--{config.target} {config.value:g} cannot be reached")
    return [int(count) for count in spread(lots, found, len(tables))]


def _curve(lot: Lot, choice: _Allocation, tables: list[UnitTable], chosen: _Chosen) -> FloatArray:
    """Loss over the lot's count, as damage where the method weighs it against the cost."""
    method, places = chosen.method, list(dict.fromkeys(lot.order.tolist()))
    if lot.pool is not None:
        tools = chosen.tools(lot.pool)
        if tools.evidence is not None and method.per_cost:
            return tools.evidence.damage  # what was observed outweighs any estimate
        curve = method.curve(tables[lot.pool], tools)
    elif method.per_cost:
        # units one of a kind are weighed against the whole group
        group = [
            w for pool, w in zip(choice.pools, choice.worth, strict=True) if pool.group == lot.group
        ]
        gone = np.concatenate([[0.0], np.cumsum(lot.worth)])[::-1]
        curve = gone / max(sum(float(w.sum()) for w in group), 1e-300)
    else:
        curve = np.zeros(lot.size + 1)
        for place in places:
            own = method.curve(tables[place], chosen.tools(place))
            left = (lot.order == place).sum() - np.cumsum(np.append(0, lot.order == place))
            curve += own[left][::-1]
    readers = max(choice.pools[place].n_readers for place in places)
    return _damage(curve, readers) if method.per_cost else curve


def _damage(curve: FloatArray, n_readers: int) -> FloatArray:
    """Lost share of signal -> -n_readers log(kept share).

    Kept shares multiply along the network, and what a pool loses, the units of a residual spine
    above all, it loses at each of its readers.
    """
    return -float(n_readers) * np.log(np.clip(1.0 - curve, 1e-9, 1.0))


def _check_floor(
    coupling: Coupling,
    config: PruneConfig,
    chosen: _Chosen,
    choice: _Allocation,
    tables: list[UnitTable],
    whole: float,
) -> None:
    floor = _floor(choice) / whole
    if floor <= config.value:
        return
    bottom = _floor(_allocation(coupling, config, chosen, tables, 1, 0.0)) / whole
    few = "as few channels as leave no layer empty"
    advice = (
        f"lower --min-share or --align (with {few} {bottom:.3f} remains)"
        if bottom <= config.value
        else f"even with {few} {bottom:.3f} remains; {_blockers(coupling)}"
    )
    raise BudgetError(
        f"--{config.target} {config.value:g} cannot be reached: at least {floor:.3f} remains "
        f"with --min-share {config.min_share:g} and --align {config.align}; {advice}"
    )


def _floor(choice: _Allocation) -> float:
    return choice.total(smallest(choice.lots, choice.cost, choice.needs))


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
    chosen: _Chosen,
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
