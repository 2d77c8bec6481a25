"""Units one of a kind: weighed against each other, and gone where that leaves nothing empty."""

from __future__ import annotations

from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from net_builder import Net, image
from onnx import numpy_helper

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.errors import BudgetError, PlanError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.plan.allocate import by_ratio, smallest
from onnx_scsp.plan.cost import macs_model, make_pools
from onnx_scsp.plan.lots import Lot, make_lots, spread
from onnx_scsp.plan.needs import find_needs

CHANNELS = 12


def staircase(n: Net, x: str) -> str:
    """x and its first 1, 2, ... channels side by side: every channel is one of a kind."""
    steps = [n.slice(x, [0], [k], [1]) for k in range(1, CHANNELS)]
    n.channels.update({step: k for k, step in enumerate(steps, 1)})
    return n.concat(x, *steps)


def network(dead: tuple[int, ...] = ()) -> onnx.ModelProto:
    n, x = image()
    joined = staircase(n, n.relu(n.conv(x, CHANNELS)))
    model = n.build(n.head(n.relu(n.conv(joined, 8))))
    for tensor in model.graph.initializer[:2]:
        array = numpy_helper.to_array(tensor).copy()
        array[list(dead)] = 0.0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def cut(model: onnx.ModelProto, folder: Path, **options: object) -> onnx_scsp.PruneResult:
    onnx.save(model, str(folder / "in.onnx"))
    config = onnx_scsp.PruneConfig(**({"align": 1, "compensate": "none"} | options))
    return onnx_scsp.prune(
        folder / "in.onnx", folder / "out.onnx", config, plan_out=folder / "plan.json"
    )


def twin_error(folder: Path) -> float:
    return independent_twin.compare(
        *(folder / name for name in ("in.onnx", "out.onnx", "plan.json"))
    ).error


def lots_of(align: int = 1, min_share: float = 0.0) -> tuple[list[Lot], object, object]:
    coupling = find_coupling(from_proto(network()))
    pools = make_pools(coupling, align, min_share)
    needs = find_needs(coupling, pools, min_share)
    cost = macs_model(coupling, pools)
    worth = [np.ones(pool.size) for pool in pools]
    saved = cost.gradient(np.array([pool.size for pool in pools], float))
    return make_lots(coupling, pools, needs, worth, saved), needs, cost


def test_every_channel_of_the_staircase_is_one_of_a_kind() -> None:
    stairs, _ = find_coupling(from_proto(network())).map.groups
    assert sorted(stairs.profile.tolist()) == list(range(CHANNELS))


@pytest.mark.parametrize("method", ["scsp", "one-per-cluster", "l2", "random"])
def test_half_of_them_go_and_the_independent_twin_agrees(method: str, tmp_path: Path) -> None:
    result = cut(network(), tmp_path, target="ratio", value=0.5, method=method)
    assert result.layers["Conv0"] == (CHANNELS, CHANNELS // 2)
    assert result.report
    assert twin_error(tmp_path) <= 1e-4


@pytest.mark.parametrize("method", ["scsp", "l2"])
def test_exactly_the_dead_ones_go(method: str, tmp_path: Path) -> None:
    dead = (1, 2, 3, 5, 8, 11)
    result = cut(network(dead), tmp_path, target="ratio", value=0.5, method=method)
    (stairs,) = (c for c in result.plan.cuts if c.group == "g00")
    assert set(range(CHANNELS)) - set(stairs.keep) == set(dead)
    assert stairs.score == 0.0


@pytest.mark.parametrize("method", ["scsp", "one-per-cluster", "l2", "random"])
@pytest.mark.parametrize("target", ["macs", "params"])
def test_a_budget_is_met_through_them(target: str, method: str, tmp_path: Path) -> None:
    result = cut(network(), tmp_path, target=target, value=0.2, method=method)
    assert 0.1 < result.achieved <= 0.2
    assert twin_error(tmp_path) <= 1e-4


def test_the_channel_that_a_step_has_alone_stays_whatever_the_budget() -> None:
    lots, needs, cost = lots_of()
    (stairs,) = (lot for lot in lots if lot.pool is None)
    assert stairs.order[-1] == 0  # the first step holds channel 0 only
    assert smallest(lots, cost, needs) == [1, 1]


def test_the_least_worth_per_cost_goes_first_while_the_layers_shrink_together() -> None:
    lots, _, _ = lots_of()
    (stairs,) = (lot for lot in lots if lot.pool is None)
    kept = [spread([stairs], [count], CHANNELS + 1) for count in range(CHANNELS + 1)]
    entries = np.append(np.arange(CHANNELS, 0, -1), 0)  # of each channel in what is joined
    filled = np.array([float(k @ entries) for k in kept])
    floor = np.floor(np.arange(CHANNELS + 1) / CHANNELS * entries.sum())
    # channel 0 is the largest and may never go, so that the others have to give a little more
    assert (filled[1:] >= floor[1:]).all()


@pytest.mark.parametrize("align", [2, 4, 8])
def test_their_number_is_a_multiple_of_the_alignment(align: int, tmp_path: Path) -> None:
    lots, _, _ = lots_of(align)
    (stairs,) = (lot for lot in lots if lot.pool is None)
    assert stairs.allowed == tuple(sorted({*range(align, CHANNELS, align), CHANNELS}))
    result = cut(network(), tmp_path, target="ratio", value=0.5, align=align)
    assert result.layers["Conv0"][1] % align == 0


def test_the_smallest_share_holds_for_the_group_as_a_whole() -> None:
    lots, needs, _ = lots_of(min_share=0.4)
    (index,) = (i for i, lot in enumerate(lots) if lot.pool is None)
    assert by_ratio(lots, 0.1, needs)[index] == 5  # 0.4 x 12, rounded up


def test_a_plan_that_empties_a_step_is_refused_by_name(tmp_path: Path) -> None:
    model = from_proto(network())
    plan = onnx_scsp.make_plan(model, onnx_scsp.PruneConfig(target="ratio", align=1))
    text = onnx_scsp.plan_to_json(plan)
    keep = next(c.keep for c in plan.cuts if c.group == "g00")
    assert 0 in keep
    bad = text.replace(f'"keep": {list(keep)}', f'"keep": {[unit for unit in keep if unit]}')
    with pytest.raises(PlanError, match=r"leave the channels of 'slice\d+' empty; keep at least"):
        onnx_scsp.apply_plan(model, onnx_scsp.plan_from_json(bad))


def test_the_floor_is_what_the_smallest_cut_costs() -> None:
    coupling = find_coupling(from_proto(network()))
    lots, needs, cost = lots_of()
    k = spread(lots, smallest(lots, cost, needs), CHANNELS + 1)
    assert coupling.map.floor_macs == pytest.approx(cost.total(k))


def test_an_unreachable_budget_names_the_floor() -> None:
    model = from_proto(network())
    floor = find_coupling(model).map
    config = onnx_scsp.PruneConfig(value=0.5 * floor.floor_macs / floor.macs, min_share=0.0)
    with pytest.raises(BudgetError, match="with as few channels as leave no layer empty"):
        onnx_scsp.make_plan(model, config)
