"""What steps are charged with, and what plans make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from net_builder import image
from timing.staircases import linear, table

import onnx_scsp
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.plan import plan_cuts, plan_from_json, plan_to_json
from onnx_scsp.plan.cost import macs_model, make_pools
from onnx_scsp.plan.spending import PricedCost, priced, time_model
from onnx_scsp.timing import rates

TABLE = table(linear)
SHARE = 0.7


def written(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return path


def two_branches(folder: Path) -> Path:
    """Two branches of equal MACs and weights' size; the second multiplies what it makes."""
    n, x = image(size=16)
    quick, slow = n.relu(n.conv(x, 64)), n.conv(x, 64)
    for _ in range(4):
        slow = n.op("Mul", slow, n.op("Sigmoid", slow))
    return written(n.build(n.op("Add", n.conv(quick, 8), n.conv(slow, 8))), folder)


def coupled(path: Path) -> Coupling:
    return find_coupling(onnx_scsp.load(path))


def kept(path: Path, spend_by: str) -> tuple[int, int]:
    """Units that stay in the quick and in the slow branch."""
    plan = plan_cuts(
        coupled(path),
        PruneConfig(value=SHARE, spend_by=spend_by, method="l2", synthetic=False),
        machine=TABLE,
    )
    by_group = {cut.group: len(cut.keep) for cut in plan.cuts}
    wide = [group for group in plan.groups if group.n_units == 64]
    quick, slow = (by_group.get(group.id, 64) for group in wide)
    return quick, slow


# ---- the price -----------------------------------------------------------------------------


def test_the_price_weighs_relative_cost_and_relative_time(tmp_path: Path) -> None:
    coupling = coupled(two_branches(tmp_path))
    pools = make_pools(coupling, 1, 0.0)
    whole = np.array([pool.size for pool in pools], float)
    macs, time = macs_model(coupling, pools), time_model(coupling, pools, TABLE)
    half = PricedCost(macs, time, 0.5, pools)
    each = [model.gradient(whole) / model.total(whole) for model in (macs, time)]
    np.testing.assert_allclose(half.gradient(whole), 0.5 * each[0] + 0.5 * each[1])
    assert half.total(whole) == macs.total(whole)


def test_by_the_budget_alone_nothing_is_estimated(tmp_path: Path) -> None:
    coupling = coupled(two_branches(tmp_path))
    pools = make_pools(coupling, 1, 0.0)
    macs = macs_model(coupling, pools)
    assert priced(macs, "budget", coupling, pools, TABLE) is macs


def test_time_is_that_of_layers_and_of_what_writes_values_of_its_own(tmp_path: Path) -> None:
    n, x = image(size=16)
    x = n.op("Clip", n.relu(n.conv(x, 64)), n.const(0.0), n.const(6.0))
    x = n.op("Mul", x, n.const(np.full((1, 64, 1, 1), 0.5)))
    coupling = coupled(written(n.build(n.conv(x, 8)), tmp_path))
    pools = make_pools(coupling, 1, 0.0)
    found = rates(TABLE)
    layers = sum(found.per_mac["dense"] * term.macs for term in coupling.costs)
    layers += found.per_weight * (3 * 64 + 64 * 8) * 9
    passed = found.per_value * 64 * 16 * 16
    whole = np.array([pool.size for pool in pools], float)
    time = time_model(coupling, pools, TABLE)
    assert time.total(whole) == pytest.approx(layers + passed)
    assert time.total(whole / 2) < 0.6 * time.total(whole)


# ---- plans ---------------------------------------------------------------------------------


def test_by_time_the_branch_that_takes_longer_gives_more(tmp_path: Path) -> None:
    path = two_branches(tmp_path)
    quick, slow = kept(path, "time")
    assert slow < quick
    equal = kept(path, "budget")
    assert quick > equal[0]
    assert slow < equal[1]


@pytest.mark.parametrize("spend_by", ["budget", "both", "time"])
@pytest.mark.parametrize("target", ["macs", "params"])
def test_the_budget_that_is_met_is_the_one_that_was_named(
    tmp_path: Path, spend_by: str, target: str
) -> None:
    path = two_branches(tmp_path)
    config = PruneConfig(target=target, value=SHARE, spend_by=spend_by, synthetic=False)
    result = onnx_scsp.prune(path, tmp_path / "o.onnx", config, machine=TABLE)
    assert 0.9 * SHARE < result.achieved <= SHARE


@pytest.mark.parametrize(
    ("config", "resolved"),
    [
        (PruneConfig(), "both"),
        (PruneConfig(target="params"), "budget"),
        (PruneConfig(target="ratio"), "budget"),
        (PruneConfig(target="latency"), "budget"),
        (PruneConfig(align=8), "budget"),
        (PruneConfig(spend_by="budget"), "budget"),
        (PruneConfig(target="params", spend_by="time"), "time"),
    ],
)
def test_auto_is_both_for_macs_where_there_is_a_table(config: PruneConfig, resolved: str) -> None:
    assert config.resolved(has_data=False).spend_by == resolved


def test_the_plan_says_what_was_spent_by_and_makes_the_same_file_without_the_table(
    tmp_path: Path,
) -> None:
    model = onnx_scsp.load(two_branches(tmp_path))
    config = PruneConfig(value=SHARE, synthetic=False)
    plan = onnx_scsp.make_plan(model, config, machine=table(lambda w: 3.0 * w))
    assert plan.config["spend_by"] == "both"
    again = plan_from_json(plan_to_json(plan))
    onnx_scsp.prune(model, tmp_path / "a.onnx", plan=plan)
    onnx_scsp.prune(model, tmp_path / "b.onnx", plan=again, machine=TABLE)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spend_by": "money"}, "use one of auto, budget, time, both"),
        ({"spend_by": "time", "align": 8}, "leave out --align 8"),
        ({"spend_by": "both", "target": "ratio"}, "not with ratio"),
        ({"spend_by": "both", "target": "latency"}, "not with latency"),
    ],
)
def test_what_goes_by_no_table_or_no_budget_is_refused(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        PruneConfig(**options)  # type: ignore[arg-type]
