"""How many units every pool keeps: what counts are chosen among, and what bounds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import numpy as np

from onnx_scsp.config import AUTO, PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.describe import Affinity, Criterion
from onnx_scsp.errors import BudgetError, ConfigError
from onnx_scsp.observe import Evidence
from onnx_scsp.partition import Clusterer
from onnx_scsp.plan.abreast import abreast
from onnx_scsp.plan.absorb import Compensator
from onnx_scsp.plan.allocate import by_budget, by_ratio, give_back, smallest
from onnx_scsp.plan.cost import Costs, Pool, macs_model, make_pools, params_model
from onnx_scsp.plan.latency import LayerClock, latency_model
from onnx_scsp.plan.lots import Lot, make_lots, spread
from onnx_scsp.plan.method import Method, Ranking, Tools
from onnx_scsp.plan.needs import Needs, find_needs
from onnx_scsp.plan.spending import priced
from onnx_scsp.timing import MachineTable
from onnx_scsp.types import FloatArray
from onnx_scsp.units import UnitTable

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
_FILLED = 0.98
"""Where good widths leave more of a budget unused, others are let in to fill it."""
_NEAR = 1 / 8
"""By ratio, a pool's counts are sought among the good ones where one is this near to its share."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The entries that a configuration names.

    Attributes:
        method: How units are chosen.
        cluster: The clusterer.
        criterion: What a unit is worth.
        affinity: By what units are alike.
        compensate: Who takes over whom.
        seed: Of random numbers.
        criteria: All criteria.
        evidence: What calibration inputs say, where there are some.
        rankings: What methods have found out, per pool.
    """

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
        """What the method works with at one pool."""
        found = self.evidence.pools[place] if self.evidence is not None else None
        rng = np.random.default_rng([self.seed, place])
        known = self.rankings.setdefault(place, {})
        trials = self.evidence.trials if self.evidence is not None else None
        trial = partial(trials.errors, place) if trials is not None else None
        return Tools(self.cluster, self.criterion, rng, found, self.criteria, trial, known)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What counts are chosen for.

    Attributes:
        coupling: The model.
        config: Budget and method.
        chosen: The tables' entries.
        tables: Units of every pool.
        machine: What widths cost, where alignment goes by that.
        clock: How long layers take, where the budget is a latency.
    """

    coupling: Coupling
    config: PruneConfig
    chosen: Chosen
    tables: list[UnitTable]
    machine: MachineTable | None = None
    clock: LayerClock | None = None

    @property
    def align(self) -> int | MachineTable:
        """What widths are aligned to."""
        if self.config.align == AUTO and self.machine is not None:
            return self.machine
        return int(self.config.align)

    def cost_model(self, pools: list[Pool]) -> Costs:
        """What the budget counts, and what steps towards it are charged with."""
        if self.config.target == "latency":
            if self.clock is None:
                raise ConfigError("a latency is planned by times of layers; none are given")
            return latency_model(self.coupling, pools, self.clock)
        model = params_model if self.config.target == "params" else macs_model
        budget = model(self.coupling, pools)
        if not isinstance(self.align, MachineTable):
            return budget
        return priced(budget, self.config.spend_by, self.coupling, pools, self.align)


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """What counts are chosen among.

    Attributes:
        pools: The pools.
        lots: What steps are taken in.
        needs: What has to stay.
        cost: What the budget counts.
        worth: float64 (size,) per pool.
        relaxed: Whether widths may stay that the machine table advises against.
    """

    pools: list[Pool]
    lots: list[Lot]
    needs: Needs
    cost: Costs
    worth: list[FloatArray]
    relaxed: bool = False

    def total(self, counts: list[int]) -> float:
        """Cost when the lots keep this many units."""
        return self.cost.total(spread(self.lots, counts, len(self.pools)))

    @property
    def whole(self) -> float:
        """Cost before any cut."""
        return self.total([lot.size for lot in self.lots])

    @property
    def floor(self) -> float:
        """Cost of the smallest counts."""
        return self.total(smallest(self.lots, self.cost, self.needs))


def allocate(task: Task, progress: Progress) -> tuple[Allocation, list[int]]:
    """Chooses counts.

    Args:
        task: What for.
        progress: Called as work goes on.

    Returns:
        What was chosen among, and the kept units per pool.

    Raises:
        BudgetError: The budget is below the reachable floor.
    """
    config, n_pools = task.config, len(task.tables)
    choice = _allocation(task, task.align, config.min_share)
    if config.target == "ratio":
        curves = _curves(task, choice, progress) if _has_steps(choice) else None
        counts = by_ratio(choice.lots, config.value, choice.needs, curves)
        return choice, _per_pool(choice, counts, n_pools)
    whole = choice.whole
    limit = config.value * whole
    if choice.floor > limit and isinstance(task.align, MachineTable):
        choice = _allocation(task, task.align, config.min_share, relaxed=True)
    _check_floor(task, choice, whole)
    curves = _curves(task, choice, progress)
    found = by_budget(
        choice.lots,
        curves,
        choice.cost,
        limit,
        task.chosen.method.per_cost,
        choice.needs,
    )
    if found is None:
        raise BudgetError(f"--{config.target} {config.value:g} cannot be reached")
    if choice.total(found) < _FILLED * limit and isinstance(task.align, MachineTable):
        choice = replace(choice, lots=_loosened(choice), relaxed=True)
        found = give_back(choice.lots, curves, choice.cost, limit, found, choice.needs)
    return choice, _per_pool(choice, found, n_pools)


def _loosened(choice: Allocation) -> list[Lot]:
    """The same lots, with coarse multiples beside the good widths."""
    lots = []
    for lot in choice.lots:
        widths = None if lot.pool is None else choice.pools[lot.pool].widths
        if widths is not None:
            more = range(lot.allowed[0], lot.size)
            between = {count for count in more if count % widths.coarse == 0}
            lot = replace(lot, allowed=tuple(sorted(between | set(lot.allowed))))
        lots.append(lot)
    return lots


def _per_pool(choice: Allocation, counts: list[int], n_pools: int) -> list[int]:
    return [int(count) for count in spread(choice.lots, counts, n_pools)]


def _has_steps(choice: Allocation) -> bool:
    """Whether counts lie apart, so that it matters where what is left over goes."""
    return any(b - a > 1 for lot in choice.lots for a, b in pairwise(lot.allowed))


def _allocation(
    task: Task, align: int | MachineTable, min_share: float, *, relaxed: bool = False
) -> Allocation:
    coupling, config, chosen = task.coupling, task.config, task.chosen
    pools = make_pools(coupling, align, min_share, relaxed=relaxed)
    if config.target == "ratio" and isinstance(align, MachineTable):
        looser = make_pools(coupling, align, min_share, relaxed=True)
        pools = [
            pool if _is_near(pool, config.value) else other
            for pool, other in zip(pools, looser, strict=True)
        ]
        relaxed = any(not _is_near(pool, config.value) for pool in pools)
    needs = find_needs(coupling, pools, min_share)
    cost = task.cost_model(pools)
    worth = [chosen.method.worth(table, chosen.tools(p)) for p, table in enumerate(task.tables)]
    whole = np.array([pool.size for pool in pools], float)
    saved = cost.gradient(whole) if chosen.method.per_cost else np.ones(len(pools))
    lots = make_lots(coupling, pools, needs, worth, saved)
    return Allocation(pools, lots, needs, cost, worth, relaxed)


def _is_near(pool: Pool, ratio: float) -> bool:
    """Whether an allowed count is near to the pool's share."""
    wish = ratio * pool.size
    return min(abs(count - wish) for count in pool.allowed) <= _NEAR * pool.size


def _curves(task: Task, choice: Allocation, progress: Progress) -> list[FloatArray]:
    return abreast(
        lambda place: _curve(choice.lots[place], choice, task.tables, task.chosen),
        [lot.size for lot in choice.lots],
        partial(progress, "measuring loss curves"),
    )


def _curve(lot: Lot, choice: Allocation, tables: list[UnitTable], chosen: Chosen) -> FloatArray:
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


def _check_floor(task: Task, choice: Allocation, whole: float) -> None:
    config = task.config
    floor = choice.floor / whole
    if floor <= config.value:
        return
    bottom = _allocation(task, 1, 0.0).floor / whole
    few = "as few channels as leave no layer empty"
    advice = (
        f"lower --min-share or --align (with {few} {bottom:.3f} remains)"
        if bottom <= config.value
        else f"even with {few} {bottom:.3f} remains; {_blockers(task.coupling)}"
    )
    raise BudgetError(
        f"--{config.target} {config.value:g} cannot be reached: at least {floor:.3f} remains "
        f"with --min-share {config.min_share:g} and --align {config.align}; {advice}",
        floor=floor,
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
