"""Counts per pool under a budget, and the cost model behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph.small import DIGITS

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.plan import allocate
from onnx_scsp.plan.cost import CostModel, Pool, macs_model, make_pools, params_model
from onnx_scsp.plan.lots import Lot
from onnx_scsp.plan.needs import Needs

SEEDS = range(6)


def pool(size: int, step: int = 1, floor: int = 1, start: int = 0) -> Pool:
    numbers = np.arange(start, start + size)
    return Pool("g", 0, np.arange(size), numbers, step, floor, 1)


def lots_of(pools: list[Pool], groups: list[int] | None = None) -> tuple[list[Lot], Needs]:
    """One lot per pool, each a group of its own unless told otherwise; a group keeps a unit."""
    numbers = list(range(len(pools))) if groups is None else groups
    lots = [
        Lot(f"g{number}", np.full(p.size, place), np.ones(p.size), p.allowed, place)
        for place, (p, number) in enumerate(zip(pools, numbers, strict=True))
    ]
    rows = np.zeros((0, len(pools)), bool)
    return lots, Needs(rows, np.array(numbers), np.ones(max(numbers) + 1))


def by_ratio(pools: list[Pool], ratio: float, groups: list[int] | None = None) -> list[int]:
    lots, needs = lots_of(pools, groups)
    return allocate.by_ratio(lots, ratio, needs)


def by_budget(
    pools: list[Pool], curves: list, cost: CostModel, limit: float, per_cost: bool
) -> list[int] | None:
    lots, needs = lots_of(pools)
    return allocate.by_budget(lots, curves, cost, limit, per_cost, needs)


def smallest(pools: list[Pool]) -> np.ndarray:
    return np.array([p.allowed[0] for p in pools], float)


def network(seed: int, step: int = 1, floor: int = 1) -> tuple[list[Pool], CostModel, list, list]:
    """Four random pools, random terms over one to three axes, random falling curves."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(6, 20, 4)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    pools = [
        pool(int(size), step, floor, int(start)) for size, start in zip(sizes, starts, strict=True)
    ]
    terms = []
    for _ in range(7):
        vectors = tuple(_axis(rng, pools) for _ in range(rng.integers(1, 4)))
        terms.append((float(rng.uniform(0.5, 4.0)), vectors))
    curves = [np.sort(np.append(rng.uniform(0.0, 1.0, int(size)), 0.0))[::-1] for size in sizes]
    return pools, CostModel(terms, pools, int(sizes.sum())), terms, curves


def _axis(rng: np.random.Generator, pools: list[Pool]) -> np.ndarray:
    """Units of one or two pools, each of them equally often, between entries that stay."""
    chosen = rng.choice(len(pools), int(rng.integers(1, 3)), replace=False)
    parts = [np.repeat(pools[index].global_units, int(rng.integers(1, 4))) for index in chosen]
    fixed = np.full(int(rng.integers(1, 4)), -1)
    return rng.permutation(np.concatenate([fixed, *parts]))


def brute_force(terms: list, pools: list[Pool], counts: list[int], seed: int) -> float:
    """Counts the entries that stay when random units of each pool go."""
    rng = np.random.default_rng(seed)
    stays = {-1}
    for found, count in zip(pools, counts, strict=True):
        stays |= set(rng.permutation(found.global_units)[:count].tolist())
    return sum(
        coefficient * np.prod([sum(int(u) in stays for u in vector) for vector in vectors])
        for coefficient, vectors in terms
    )


def limits(cost: CostModel, pools: list[Pool], count: int = 12) -> np.ndarray:
    whole = cost.total(np.array([p.size for p in pools], float))
    return np.linspace(cost.total(smallest(pools)), whole, count)


# ---- cost model -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_total_is_what_counting_entries_gives(seed: int) -> None:
    pools, cost, terms, _ = network(seed)
    counts = [int(np.random.default_rng(seed).integers(1, p.size + 1)) for p in pools]
    want = brute_force(terms, pools, counts, seed)
    assert cost.total(np.array(counts, float)) == pytest.approx(want)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_is_the_derivative_of_the_total(seed: int) -> None:
    pools, cost, _, _ = network(seed)
    k = np.random.default_rng(seed).uniform(1.0, 6.0, len(pools))
    steps = 1e-4 * np.eye(len(pools))
    want = [(cost.total(k + step) - cost.total(k - step)) / 2e-4 for step in steps]
    assert np.allclose(cost.gradient(k), want, rtol=1e-5)


def test_a_term_without_axes_is_a_constant() -> None:
    pools = [pool(4)]
    cost = CostModel([(7.0, ())], pools, 4)
    assert cost.total(np.array([2.0])) == 7.0
    assert cost.gradient(np.array([2.0])).tolist() == [0.0]


def test_a_pool_on_both_axes_counts_squared() -> None:
    pools = [pool(4)]
    cost = CostModel([(1.0, (np.arange(4), np.arange(4)))], pools, 4)
    assert cost.total(np.array([3.0])) == 9.0
    assert cost.gradient(np.array([3.0])).tolist() == [6.0]


@pytest.mark.parametrize("name", ["digits_bn", "digits_folded"])
def test_the_whole_network_costs_what_coupling_counts(name: str) -> None:
    coupling = find_coupling(onnx_scsp.load(DIGITS / f"{name}.onnx"))
    pools = make_pools(coupling, 1, 0.0)
    whole = np.array([p.size for p in pools], float)
    assert macs_model(coupling, pools).total(whole) == pytest.approx(coupling.macs)
    assert params_model(coupling, pools).total(whole) == pytest.approx(coupling.map.params)


@pytest.mark.parametrize("target", ["macs", "params"])
def test_the_model_foretells_the_cost_of_the_written_file(target: str, tmp_path: Path) -> None:
    path = DIGITS / "digits_bn.onnx"
    config = onnx_scsp.PruneConfig(target=target, value=0.4, align=4)
    result = onnx_scsp.prune(path, tmp_path / "out.onnx", config, verified=False)
    coupling = find_coupling(onnx_scsp.load(path))
    pools = make_pools(coupling, 4, config.min_share)
    keep = {cut.group: len(cut.keep) for cut in result.plan.cuts}
    k = np.array([keep.get(p.group, p.size) for p in pools], float)
    model = (macs_model if target == "macs" else params_model)(coupling, pools)
    assert model.total(k) == pytest.approx(getattr(result.after, target))


# ---- pools ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "step", "floor", "allowed"),
    [
        (6, 1, 1, (1, 2, 3, 4, 5, 6)),
        (10, 4, 1, (4, 8, 10)),
        (12, 4, 5, (8, 12)),
        (8, 1, 7, (7, 8)),
        (8, 4, 8, (8,)),
        (3, 3, 1, (3,)),
        (3, 4, 1, (3,)),
        (3, 4, 0, (0, 3)),
        (10, 4, 0, (0, 4, 8, 10)),
    ],
)
def test_allowed_counts(size: int, step: int, floor: int, allowed: tuple[int, ...]) -> None:
    assert pool(size, step, floor).allowed == allowed


def test_below_is_the_next_smaller_allowed_count() -> None:
    ((found,), _) = lots_of([pool(10, 4)])
    assert [found.below(k) for k in (10, 8, 4)] == [8, 4, None]


def test_pools_cover_every_unit_once() -> None:
    coupling = find_coupling(onnx_scsp.load(DIGITS / "digits_bn.onnx"))
    units = np.concatenate([p.global_units for p in make_pools(coupling, 4, 0.1)])
    assert sorted(units.tolist()) == list(range(coupling.n_units))


def test_a_unit_that_stands_for_four_channels_needs_no_further_alignment() -> None:
    coupling = find_coupling(onnx_scsp.load(DIGITS / "digits_bn.onnx"))
    steps = {g: [p.step for p in make_pools(coupling, 4, 0.0) if p.group == g] for g in
             ("g00", "g04")}  # fmt: skip
    assert steps == {"g00": [4], "g04": [1]}


@pytest.mark.parametrize(("share", "floor"), [(0.0, 1), (0.1, 4), (0.25, 8), (0.5, 16)])
def test_the_floor_is_the_share_rounded_up(share: float, floor: int) -> None:
    coupling = find_coupling(onnx_scsp.load(DIGITS / "digits_bn.onnx"))
    assert make_pools(coupling, 1, share)[0].floor == floor


# ---- ratio ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "step", "ratio", "count"),
    [
        (10, 1, 0.5, 5), (9, 1, 0.5, 5), (12, 4, 0.5, 8), (16, 4, 0.5, 8), (16, 4, 0.01, 4),
        (16, 4, 0.99, 16), (10, 4, 0.55, 4), (10, 4, 0.6, 8), (7, 1, 1 / 7, 1),
    ],
)  # fmt: skip
def test_a_ratio_gives_the_nearest_allowed_count_ties_upwards(
    size: int, step: int, ratio: float, count: int
) -> None:
    assert by_ratio([pool(size, step)], ratio) == [count]


@pytest.mark.parametrize(
    ("sizes", "step", "ratio", "counts"),
    [
        ((3, 3, 3, 3), 1, 0.5, [2, 2, 1, 1]),  # and not two of each
        ((1,) * 6, 1, 0.5, [1, 1, 1, 0, 0, 0]),
        ((5, 2), 1, 0.5, [3, 1]),
        ((8, 4), 4, 0.5, [4, 4]),
        ((2, 2), 1, 0.1, [1, 0]),  # one unit of the group stays
    ],
)
def test_the_pools_of_one_group_are_rounded_together(
    sizes: tuple[int, ...], step: int, ratio: float, counts: list[int]
) -> None:
    pools = [pool(size, step, floor=0) for size in sizes]
    assert by_ratio(pools, ratio, [0] * len(pools)) == counts


# ---- budget ---------------------------------------------------------------------------------


@pytest.mark.parametrize("per_cost", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_budget_is_never_exceeded(seed: int, per_cost: bool) -> None:
    pools, cost, _, curves = network(seed)
    for limit in limits(cost, pools):
        counts = by_budget(pools, curves, cost, float(limit), per_cost)
        assert counts is not None
        assert cost.total(np.array(counts, float)) <= limit


@pytest.mark.parametrize("per_cost", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_pool_could_take_one_step_more(seed: int, per_cost: bool) -> None:
    pools, cost, _, curves = network(seed, step=2)
    for limit in limits(cost, pools):
        counts = np.array(by_budget(pools, curves, cost, float(limit), per_cost), float)
        for index, found in enumerate(pools):
            larger = [count for count in found.allowed if count > counts[index]]
            if larger:
                more = counts.copy()
                more[index] = larger[0]
                assert cost.total(more) > limit


@pytest.mark.parametrize("per_cost", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_larger_budget_never_buys_less(seed: int, per_cost: bool) -> None:
    pools, cost, _, curves = network(seed)
    totals = [
        cost.total(np.array(by_budget(pools, curves, cost, float(limit), per_cost), float))
        for limit in limits(cost, pools, 40)
    ]
    assert (np.diff(totals) >= -1e-9).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("step", "floor"), [(1, 1), (4, 1), (2, 5), (3, 4)])
def test_only_allowed_counts_are_chosen(seed: int, step: int, floor: int) -> None:
    pools, cost, _, curves = network(seed, step, floor)
    for limit in limits(cost, pools):
        counts = by_budget(pools, curves, cost, float(limit), True)
        assert all(count in found.allowed for found, count in zip(pools, counts, strict=True))


def test_the_whole_budget_keeps_everything() -> None:
    pools, cost, _, curves = network(0)
    whole = np.array([p.size for p in pools], float)
    assert by_budget(pools, curves, cost, cost.total(whole), True) == whole.tolist()


def test_a_budget_below_the_smallest_counts_is_none() -> None:
    pools, cost, _, curves = network(0, floor=3)
    limit = cost.total(smallest(pools)) - 1e-6
    assert by_budget(pools, curves, cost, limit, True) is None


def two_pools() -> tuple[list[Pool], CostModel]:
    """Two pools of ten; a unit of the second costs ten times as much."""
    pools = [pool(10), pool(10, start=10)]
    terms = [(1.0, (np.arange(10),)), (10.0, (np.arange(10, 20),))]
    return pools, CostModel(terms, pools, 20)


def test_per_cost_takes_the_dear_units_for_the_same_loss() -> None:
    pools, cost = two_pools()
    curves = [np.linspace(1.0, 0.0, 11)] * 2
    assert by_budget(pools, curves, cost, 60.0, True) == [10, 5]


def test_without_cost_the_smaller_loss_decides() -> None:
    pools, cost = two_pools()
    curves = [np.linspace(1.0, 0.0, 11), np.linspace(2.0, 0.0, 11)]
    assert by_budget(pools, curves, cost, 101.0, False) == [1, 10]


def test_a_pool_may_go_where_another_of_its_group_stays() -> None:
    _, cost = two_pools()
    pools = [pool(10, floor=0), pool(10, floor=0, start=10)]
    lots, needs = lots_of(pools, [0, 0])
    curves = [np.linspace(1.0, 0.0, 11), np.linspace(0.1, 0.0, 11)]
    assert allocate.by_budget(lots, curves, cost, 10.0, True, needs) == [10, 0]
    assert allocate.by_budget(lots, curves, cost, 1.0, True, needs) == [1, 0]
    assert allocate.by_budget(lots, curves, cost, 0.5, True, needs) is None


def test_a_demand_stands_in_the_way_of_the_last_unit() -> None:
    _, cost = two_pools()
    pools = [pool(10, floor=0), pool(10, floor=0, start=10)]
    lots, needs = lots_of(pools, [0, 0])
    needs = replace(needs, rows=np.array([[False, True]]))
    curves = [np.linspace(1.0, 0.0, 11), np.linspace(0.1, 0.0, 11)]
    assert allocate.by_budget(lots, curves, cost, 20.0, True, needs) == [10, 1]
    assert allocate.by_ratio(lots, 0.01, needs) == [0, 1]


def test_what_costs_no_signal_goes_first() -> None:
    pools, cost = two_pools()
    free = np.maximum(np.linspace(0.7, -0.3, 11), 0.0)  # the last three units are copies
    curves = [np.linspace(1.0, 0.0, 11), free]
    assert by_budget(pools, curves, cost, 80.0, True) == [10, 7]


# ---- through the planner --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["scsp", "one-per-cluster", "l2", "random"])
@pytest.mark.parametrize("target", ["macs", "params"])
def test_the_written_file_is_within_the_budget_and_close_to_it(
    method: str, target: str, tmp_path: Path
) -> None:
    config = onnx_scsp.PruneConfig(target=target, value=0.5, method=method)
    path = DIGITS / "digits_bn.onnx"
    result = onnx_scsp.prune(path, tmp_path / "out.onnx", config, verified=False)
    assert 0.44 < result.achieved <= 0.5


def test_widths_are_multiples_of_the_alignment(tmp_path: Path) -> None:
    config = onnx_scsp.PruneConfig(value=0.5, align=8)
    path = DIGITS / "digits_bn.onnx"
    result = onnx_scsp.prune(path, tmp_path / "out.onnx", config, verified=False)
    widths = [after for before, after in result.layers.values() if before != after]
    assert widths
    assert all(width % 8 == 0 for width in widths)


def test_min_share_holds_in_every_group() -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")
    config = onnx_scsp.PruneConfig(value=0.3, min_share=0.45, align=1)
    plan = onnx_scsp.make_plan(model, config)
    assert all(len(cut.keep) >= 0.45 * cut.n_units for cut in plan.cuts)


def test_an_unreachable_budget_names_what_remains() -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")
    config = onnx_scsp.PruneConfig(value=0.05, min_share=0.5)
    with pytest.raises(onnx_scsp.errors.BudgetError, match=r"at least 0\.\d+ remains"):
        onnx_scsp.make_plan(model, config)


def test_a_floor_is_a_floor_for_the_ratio_too() -> None:
    assert by_ratio([replace(pool(10), floor=6)], 0.2) == [6]
