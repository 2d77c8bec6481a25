"""Counts by the machine table, through coupling and planner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.small import DIGITS
from net_builder import image
from timing.staircases import linear, steps_of_16, table

import onnx_scsp
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import BudgetError
from onnx_scsp.plan import plan_cuts, plan_from_json, plan_to_json
from onnx_scsp.plan.cost import make_pools
from onnx_scsp.plan.widths import LayerKind, layer_kinds
from onnx_scsp.timing import shipped_table


def coupled(proto: onnx.ModelProto, tmp_path: Path) -> Coupling:
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    return find_coupling(onnx_scsp.load(path))


def separable(width: int = 64) -> onnx.ModelProto:
    """3 x 3, 1 x 1, depthwise, 1 x 1, head."""
    n, x = image()
    x = n.relu(n.conv(x, 32))
    x = n.relu(n.conv(x, width, 1))
    x = n.relu(n.conv(x, width, 3, groups=width))
    x = n.relu(n.conv(x, 32, 1))
    return n.build(n.head(x))


def two_branches() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.conv(x, 64))
    a, b = n.relu(n.conv(x, 64, 1)), n.relu(n.conv(x, 64, 1))
    joined = n.op("Concat", a, b, axis=1, channels=128)
    return n.build(n.head(n.relu(n.conv(joined, 64, 1))))


def kinds_of(coupling: Coupling) -> list[str]:
    found = layer_kinds(coupling)
    return [found[term.node].kind for term in coupling.costs]


def test_layers_are_told_apart(tmp_path: Path) -> None:
    coupling = coupled(separable(), tmp_path)
    assert kinds_of(coupling) == ["dense", "pointwise", "depthwise", "pointwise", "matmul"]


def test_a_grouped_layer_knows_its_groups(tmp_path: Path) -> None:
    n, x = image()
    x = n.relu(n.conv(x, 32))
    proto = n.build(n.head(n.relu(n.conv(x, 32, 3, groups=4))))
    found = layer_kinds(coupled(proto, tmp_path))
    assert LayerKind("grouped", 4) in found.values()


def test_one_dimensional_convolutions_have_no_steps_of_their_own(tmp_path: Path) -> None:
    n, x = image()
    flat = n.op("Reshape", x, n.const([0, 3, -1]), channels=3)
    proto = n.build(n.op("ReduceMean", n.relu(n.conv(flat, 16, 3, dims=1)), axes=[2], keepdims=0))
    assert kinds_of(coupled(proto, tmp_path)) == ["matmul"]


def test_what_a_filter_per_channel_sits_between_goes_by_its_staircase(tmp_path: Path) -> None:
    coupling = coupled(separable(), tmp_path)
    machine = table(linear, depthwise=steps_of_16)
    hidden = next(p for p in make_pools(coupling, machine, 0.0) if p.size == 64)
    assert hidden.allowed == (16, 32, 48, 64)
    assert hidden.widths.kinds == ("depthwise",)


def test_what_a_concat_joins_goes_by_the_staircase_of_joined_branches(tmp_path: Path) -> None:
    coupling = coupled(two_branches(), tmp_path)
    stepped = make_pools(coupling, table(linear, joined=steps_of_16), 0.0)
    smooth = make_pools(coupling, table(linear), 0.0)
    fewer = [len(a.allowed) < len(b.allowed) for a, b in zip(stepped, smooth, strict=True)]
    assert fewer == ["joined" in pool.widths.kinds for pool in stepped]
    assert sum(fewer) == 2


def test_the_least_share_holds_among_good_widths(tmp_path: Path) -> None:
    machine = table(steps_of_16)
    hidden = [p for p in make_pools(coupled(separable(), tmp_path), machine, 0.5) if p.size == 64]
    assert hidden[0].allowed == (32, 48, 64)


def test_a_plan_with_a_table_keeps_good_widths_alone(tmp_path: Path) -> None:
    coupling = coupled(separable(128), tmp_path)
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, synthetic=False)
    plan = plan_cuts(coupling, config, machine=table(steps_of_16))
    assert plan.cuts
    assert not plan.timing["relaxed"]
    assert all(len(cut.keep) % 16 == 0 for cut in plan.cuts)


def test_a_plan_says_which_table_and_which_widths(tmp_path: Path) -> None:
    coupling = coupled(separable(), tmp_path)
    machine = table(steps_of_16)
    plan = plan_cuts(coupling, onnx_scsp.PruneConfig(synthetic=False), machine=machine)
    assert plan.timing["table"] == machine.sha256
    group = next(g.id for g in coupling.map.groups if g.n_units == 64)
    assert plan.timing["widths"][group][0]["kinds"] == ["depthwise"]
    assert set(plan.timing["widths"]) == {g.id for g in coupling.map.groups}


def test_a_fixed_multiple_says_nothing_of_timings(tmp_path: Path) -> None:
    config = onnx_scsp.PruneConfig(align=4, synthetic=False)
    plan = plan_cuts(coupled(separable(), tmp_path), config, machine=table(steps_of_16))
    assert plan.timing == {}
    assert '"timing"' not in plan_to_json(plan)


def test_without_a_table_the_shipped_one_serves(tmp_path: Path) -> None:
    plan = plan_cuts(coupled(separable(), tmp_path), onnx_scsp.PruneConfig(synthetic=False))
    assert plan.timing["table"] == shipped_table().sha256


def test_timings_survive_the_plan_file(tmp_path: Path) -> None:
    plan = plan_cuts(coupled(separable(), tmp_path), onnx_scsp.PruneConfig(synthetic=False))
    text = plan_to_json(plan)
    assert plan_from_json(text).timing == plan.timing
    assert plan_to_json(plan_from_json(text)) == text


def test_other_tables_make_other_plans_but_one_plan_makes_the_same_bytes(tmp_path: Path) -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")
    config = onnx_scsp.PruneConfig(value=0.6, synthetic=False)
    plan = onnx_scsp.make_plan(model, config, machine=table(steps_of_16))
    other = onnx_scsp.make_plan(model, config, machine=table(linear))
    assert plan.cuts != other.cuts
    for name in ("a", "b"):
        read = plan_from_json(plan_to_json(plan))
        onnx_scsp.save(onnx_scsp.apply_plan(model, read), tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_where_good_widths_cannot_reach_the_budget_multiples_of_four_may(tmp_path: Path) -> None:
    coupling = coupled(separable(32), tmp_path)
    config = onnx_scsp.PruneConfig(value=0.12, min_share=0.0, synthetic=False)
    machine = table(steps_of_16)
    with pytest.raises(BudgetError):  # the steps themselves do not
        plan_cuts(coupling, onnx_scsp.PruneConfig(value=0.12, align=16, min_share=0.0,
                                                  synthetic=False))  # fmt: skip
    plan = plan_cuts(coupling, config, machine=machine)
    assert plan.timing["relaxed"]
    assert any(len(cut.keep) % 16 for cut in plan.cuts)


def test_where_good_widths_leave_much_of_the_budget_others_fill_it(tmp_path: Path) -> None:
    coupling = coupled(separable(32), tmp_path)
    config = onnx_scsp.PruneConfig(value=0.9, synthetic=False)
    plan = plan_cuts(coupling, config, machine=table(steps_of_16))
    keep = np.ones(coupling.n_units, bool)
    for cut in plan.cuts:
        first = coupling.offsets[cut.group]
        keep[first : first + cut.n_units] = False
        keep[first + np.array(cut.keep)] = True
    macs = sum(term.macs_with(keep) for term in coupling.costs) / coupling.macs
    assert 0.8 < macs <= 0.9


def test_by_ratio_a_share_that_no_good_width_is_near_to_is_kept_all_the_same(
    tmp_path: Path,
) -> None:
    coupling = coupled(separable(32), tmp_path)
    config = onnx_scsp.PruneConfig(target="ratio", value=0.25, synthetic=False)
    plan = plan_cuts(coupling, config, machine=table(steps_of_16))
    assert {len(cut.keep) for cut in plan.cuts} == {8}
