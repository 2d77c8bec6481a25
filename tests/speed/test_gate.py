"""The gate, and widening what does not pay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from net_builder import image
from timing.staircases import slow_if_odd, table

import onnx_scsp
from onnx_scsp.errors import ConfigError, VerifyError
from onnx_scsp.plan import read_plan
from onnx_scsp.speed import prune_gated
from onnx_scsp.speed.widen import widened
from onnx_scsp.types import GroupCut, PrunePlan
from speed.stopwatch import even, odd_is_slow, profile, stopwatch, write

MACHINE = table(slow_if_odd)


def chain() -> onnx.ModelProto:
    """A depthwise chain, 64 wide."""
    n, x = image()
    x = n.relu(n.conv(x, 32))
    for _ in range(2):
        x = n.relu(n.conv(x, 64, 1))
        x = n.relu(n.conv(x, 64, 3, groups=64))
        x = n.relu(n.conv(x, 32, 1))
    return n.build(n.head(x))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(chain(), tmp_path)


@pytest.fixture
def odd_plan(model: Path) -> PrunePlan:
    """Removes one unit of every 64: what a pruner that looks at MACs alone may do."""
    plan = onnx_scsp.make_plan(
        onnx_scsp.load(model),
        onnx_scsp.PruneConfig(target="ratio", value=0.98, align=1, synthetic=False),
    )
    odd = [
        replace(cut, keep=cut.keep[:63], absorbed_by={}, scales={}) if cut.n_units == 64 else cut
        for cut in plan.cuts
    ]
    wide = tuple(cut for cut in odd if cut.n_units == 64)
    assert [len(cut.keep) for cut in wide] == [63, 63]
    return replace(plan, cuts=wide)


def run(model: Path, plan: PrunePlan, tmp_path: Path, gate: str, slowness=odd_is_slow):
    return prune_gated(
        model,
        tmp_path / "out.onnx",
        gate=gate,
        plan=plan,
        plan_out=tmp_path / "plan.json",
        machine=MACHINE,
        compare=stopwatch(slowness),
        profile=profile(slowness),
    )


def test_a_planted_slow_plan_is_not_written(
    model: Path, odd_plan: PrunePlan, tmp_path: Path
) -> None:
    with pytest.raises(VerifyError, match=r"never slower: latency [2-6]\.\d+ of the original's"):
        run(model, odd_plan, tmp_path, "check")
    assert not (tmp_path / "out.onnx").exists()
    assert not (tmp_path / "plan.json").exists()


def test_the_same_plan_passes_where_it_is_not_slow(
    model: Path, odd_plan: PrunePlan, tmp_path: Path
) -> None:
    result = run(model, odd_plan, tmp_path, "check", even)
    assert result.report.checks[-1].name == "never slower"
    assert result.report.checks[-1].passed


def test_without_a_gate_it_is_written(model: Path, odd_plan: PrunePlan, tmp_path: Path) -> None:
    result = run(model, odd_plan, tmp_path, "off")
    assert all(check.name != "never slower" for check in result.report.checks)
    assert (tmp_path / "out.onnx").exists()


def test_a_planted_slow_plan_is_undone_by_measurement(
    model: Path, odd_plan: PrunePlan, tmp_path: Path
) -> None:
    result = run(model, odd_plan, tmp_path, "widen")
    assert result.report.checks == () or result.report.checks[-1].passed
    changes = result.plan.timing["gate"]["changes"]
    assert [(change["before"], change["after"]) for change in changes] == [(63, 64), (63, 64)]
    assert all(change["ratio_after"] < change["ratio_before"] for change in changes)


def test_a_wider_good_width_is_tried_before_a_cut_is_undone(
    model: Path, odd_plan: PrunePlan, tmp_path: Path
) -> None:
    cuts = tuple(replace(cut, keep=cut.keep[:46]) for cut in odd_plan.cuts)
    result = run(model, replace(odd_plan, cuts=cuts), tmp_path, "widen")
    assert [len(cut.keep) for cut in result.plan.cuts] == [48, 48]
    assert all(set(a.keep) > set(b.keep) for a, b in zip(result.plan.cuts, cuts, strict=True))


def test_what_pays_is_left_alone(model: Path, odd_plan: PrunePlan, tmp_path: Path) -> None:
    cuts = tuple(replace(cut, keep=cut.keep[:32]) for cut in odd_plan.cuts)
    result = run(model, replace(odd_plan, cuts=cuts), tmp_path, "widen")
    assert result.plan.timing["gate"]["changes"] == []
    assert [cut.keep for cut in result.plan.cuts] == [cut.keep for cut in cuts]


def test_the_widened_plan_makes_the_same_file_without_a_gate(
    model: Path, odd_plan: PrunePlan, tmp_path: Path
) -> None:
    cuts = tuple(replace(cut, keep=cut.keep[:46]) for cut in odd_plan.cuts)
    run(model, replace(odd_plan, cuts=cuts), tmp_path, "widen")
    plan = read_plan(tmp_path / "plan.json")
    onnx_scsp.prune(model, tmp_path / "again.onnx", plan=plan)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()


def test_where_widening_does_not_help_either_the_command_fails(
    model: Path, odd_plan: PrunePlan, tmp_path: Path
) -> None:
    whole = sum(term for term in profile()(onnx_scsp.load(model)).ms.values())

    def always_slower(a: object, b: object):
        return replace(stopwatch()(a, b), ratio=1.5, low=1.4, high=1.6, b_ms=1.5 * whole)

    with pytest.raises(VerifyError, match="never slower"):
        prune_gated(model, tmp_path / "out.onnx", gate="widen", plan=odd_plan, machine=MACHINE,
                    compare=always_slower, profile=profile(odd_is_slow))  # fmt: skip


def test_a_gate_plans_by_itself_too(model: Path, tmp_path: Path) -> None:
    config = onnx_scsp.PruneConfig(target="ratio", value=0.6, align=1, synthetic=False)
    result = prune_gated(
        model, tmp_path / "out.onnx", config, gate="widen", machine=MACHINE,
        compare=stopwatch(odd_is_slow), profile=profile(odd_is_slow),
    )  # fmt: skip
    assert {len(cut.keep) for cut in result.plan.cuts if cut.n_units == 64} == {40}


def test_an_unknown_gate_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gate 'ajar' is unknown; use one of check, widen, off"):
        prune_gated(model, tmp_path / "out.onnx", gate="ajar")


# ---- widening a plan --------------------------------------------------------------------------


def test_units_come_back_by_what_they_carry(model: Path, odd_plan: PrunePlan) -> None:
    from onnx_scsp.couple import find_coupling
    from onnx_scsp.describe import unit_tables

    coupling = find_coupling(onnx_scsp.load(model))
    cut = replace(odd_plan.cuts[0], keep=tuple(range(8)))
    wider = widened(coupling, replace(odd_plan, cuts=(cut,)), cut.group, 12).cuts[0]
    group = next(g for g in coupling.map.groups if g.id == cut.group)
    (units,) = unit_tables(group, coupling.map.chains, coupling.walk.constants.real, set())
    gone = sorted(range(8, 64), key=lambda unit: -units.energy[unit])
    assert set(wider.keep) == set(range(8)) | set(gone[:4])


def test_what_comes_back_is_no_longer_taken_over(model: Path, odd_plan: PrunePlan) -> None:
    from onnx_scsp.couple import find_coupling

    coupling = find_coupling(onnx_scsp.load(model))
    keep = tuple(range(60))
    taken = {60: 0, 61: 1, 62: 2, 63: 3}
    cut = GroupCut(odd_plan.cuts[0].group, 64, keep, taken, dict.fromkeys(taken, 1.0))
    wider = widened(coupling, replace(odd_plan, cuts=(cut,)), cut.group, 62).cuts[0]
    assert set(wider.absorbed_by) == set(range(64)) - set(wider.keep)
    assert set(wider.scales) == set(wider.absorbed_by)


def test_a_group_at_its_full_width_is_not_cut(model: Path, odd_plan: PrunePlan) -> None:
    from onnx_scsp.couple import find_coupling

    coupling = find_coupling(onnx_scsp.load(model))
    group = odd_plan.cuts[0].group
    wider = widened(coupling, odd_plan, group, 64)
    assert [cut.group for cut in wider.cuts] == [odd_plan.cuts[1].group]
