"""Latency as a function of the pools' counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from net_builder import image
from timing.staircases import linear, steps_of_16, table

import onnx_scsp
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import BudgetError, ConfigError
from onnx_scsp.plan import plan_cuts
from onnx_scsp.plan.cost import Pool, make_pools
from onnx_scsp.plan.latency import DeviceClock, LatencyModel, ProfileClock, Timed, latency_model
from onnx_scsp.timing import LayerTimes, device_table


@pytest.fixture
def coupling(tmp_path: Path) -> Coupling:
    n, x = image()
    x = n.relu(n.conv(x, 64))
    x = n.relu(n.conv(x, 64, 1))
    x = n.relu(n.conv(x, 64, 3, groups=64))
    path = tmp_path / "net.onnx"
    onnx.save(n.build(n.head(n.relu(n.conv(x, 32, 1)))), path)
    return find_coupling(onnx_scsp.load(path))


def times(coupling: Coupling, ms: float = 1.0, rest_ms: float = 0.5) -> LayerTimes:
    return LayerTimes({term.node: ms for term in coupling.costs}, rest_ms, 1, "cpu")


def sizes(pools: list[Pool]) -> np.ndarray:
    return np.array([pool.size for pool in pools], float)


def test_at_full_width_the_model_takes_what_was_measured(coupling: Coupling) -> None:
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(coupling, pools, ProfileClock(times(coupling), table(linear)))
    assert model.total(sizes(pools)) == pytest.approx(len(coupling.costs) + 0.5)


def test_what_no_layer_answers_for_stays(coupling: Coupling) -> None:
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(coupling, pools, ProfileClock(times(coupling, 1e-9), table(linear)))
    assert model.total(np.ones(len(pools))) == pytest.approx(0.5)


def test_on_one_step_nothing_is_saved(coupling: Coupling) -> None:
    pools = make_pools(coupling, 1, 0.0)
    clock = ProfileClock(times(coupling), table(steps_of_16))
    model = latency_model(coupling, pools, clock)
    whole = sizes(pools)
    fewer = whole - 10.0
    assert model.total(fewer) == pytest.approx(model.total(whole))
    assert model.total(whole - 16.0) < model.total(whole)


def test_with_linear_costs_it_is_a_product_of_shares(coupling: Coupling) -> None:
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(
        coupling, pools, ProfileClock(times(coupling, rest_ms=0.0), table(linear))
    )
    whole = sizes(pools)
    # the input is not halved, everything else is; the head reads halves only
    kinds = [len(term.vectors) for term in coupling.costs]
    inner = sum(0.5 if k == 1 else 0.25 for k in kinds[1:-1])
    assert model.total(whole / 2) == pytest.approx(0.5 + inner + 0.5)


def test_the_gradient_says_what_a_channel_costs(coupling: Coupling) -> None:
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(coupling, pools, ProfileClock(times(coupling), table(linear)))
    whole = sizes(pools)
    for place in range(len(pools)):
        step = np.zeros(len(pools))
        step[place] = 1.0
        saved = model.total(whole) - model.total(whole - step)
        assert model.gradient(whole)[place] == pytest.approx(saved, rel=0.05)


def test_activations_shrink_with_their_channels(coupling: Coupling) -> None:
    relu = next(n.name for n in coupling.walk.graph.nodes if n.op_type == "Relu")
    clock = ProfileClock(LayerTimes({relu: 2.0}, 0.0, 1, "cpu"), table(linear))
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(coupling, pools, clock)
    assert model.total(sizes(pools)) == pytest.approx(2.0)
    assert model.total(sizes(pools) / 2) == pytest.approx(1.0)


def test_curves_of_different_lengths_go_together() -> None:
    pools = [Pool("a", 0, np.arange(4), np.arange(4), 1, 1, 1)]
    pools.append(Pool("b", 0, np.arange(2), np.arange(4, 6), 1, 1, 1))
    timed = [
        Timed(1.0, (np.arange(4),), (np.array([0.0, 0.5, 0.5, 1.0, 1.0]),)),
        Timed(2.0, (np.arange(4, 6),), (np.array([0.0, 0.25, 1.0]),)),
    ]
    model = LatencyModel(timed, 0.0, pools, 6)
    assert model.total(np.array([4.0, 2.0])) == 3.0
    assert model.total(np.array([2.0, 1.0])) == 1.0


DEVICE = (
    "kind,in,out,kernel,stride,spatial,ms\n"
    "dense,3,64,3,1,8,0.1\npointwise,64,64,1,1,8,1.0\n"
    "depthwise,64,64,3,1,8,4.0\nmatmul,32,10,1,1,1,0.1\n"
)


def test_a_device_table_plans_by_the_device(coupling: Coupling) -> None:
    config = onnx_scsp.PruneConfig(target="latency", value=0.6, synthetic=False)
    clock = DeviceClock(device_table(DEVICE, "t.csv"))
    plan = plan_cuts(coupling, config, clock=clock)
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(coupling, pools, clock)
    kept = {cut.group: len(cut.keep) for cut in plan.cuts}
    k = np.array([kept.get(pool.group, pool.size) for pool in pools], float)
    assert 0.4 < model.total(k) / model.total(sizes(pools)) <= 0.6


def test_a_latency_without_times_is_refused(coupling: Coupling) -> None:
    config = onnx_scsp.PruneConfig(target="latency", value=0.6, synthetic=False)
    with pytest.raises(ConfigError, match="planned by times of layers"):
        plan_cuts(coupling, config)


def test_the_floor_comes_with_the_error(coupling: Coupling) -> None:
    config = onnx_scsp.PruneConfig(target="latency", value=0.05, synthetic=False)
    clock = ProfileClock(times(coupling, rest_ms=2.0), table(linear))
    with pytest.raises(BudgetError) as caught:
        plan_cuts(coupling, config, clock=clock)
    assert caught.value.floor is not None
    assert 0.3 < caught.value.floor < 1.0
