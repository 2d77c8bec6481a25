"""What is run before there is a result says what it would say afterwards."""

from __future__ import annotations

import threading

import onnx
import pytest
from net_builder import Net

import onnx_scsp
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.errors import BudgetError
from onnx_scsp.graph.load import load
from onnx_scsp.proof import look_ahead, look_further, oracles, verify_files
from onnx_scsp.proof.rewrite import permuted

CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")


@pytest.fixture
def path(tmp_path):
    n = Net()
    x = n.input("N", 3, 8, 8)
    y = n.relu(n.conv(n.relu(n.conv(x, 16)), 16))
    onnx.save(n.build(n.conv(y, 4)), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def begun(model, groups, plan):
    specs = find_coupling(model).walk.specs
    return look_further(look_ahead(model, groups, specs, VerifyConfig()), model, plan)


def test_the_report_is_the_same_with_it_and_without(path, tmp_path):
    model = load(path)
    done = onnx_scsp.prune(path, tmp_path / "o.onnx", CONFIG)
    result = load(tmp_path / "o.onnx")
    alone = verify_files(model, result, done.plan)
    ahead = begun(model, done.plan.groups, done.plan)
    beside = verify_files(model, result, done.plan, ahead=ahead)
    names = [(check.name, check.passed) for check in alone.checks]
    assert names == [(check.name, check.passed) for check in beside.checks]
    for one, other in zip(alone.checks, beside.checks, strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-6)


def test_groups_of_another_plan_are_permuted_anew(path, tmp_path):
    model = load(path)
    done = onnx_scsp.prune(path, tmp_path / "o.onnx", CONFIG)
    ahead = begun(model, (), done.plan)
    report = verify_files(model, load(tmp_path / "o.onnx"), done.plan, ahead=ahead)
    moved = next(check for check in report.checks if check.name == "permutation")
    assert moved.value > 0.0  # without groups nothing moves, and nothing differs


def test_a_run_permutes_once(path, tmp_path, monkeypatch):
    calls = []

    def counted(*given):
        calls.append(threading.current_thread())
        return permuted(*given)

    monkeypatch.setattr(oracles, "permuted", counted)
    onnx_scsp.prune(path, tmp_path / "o.onnx", CONFIG)
    assert len(calls) == 1
    assert calls[0] is not threading.main_thread()


def test_a_budget_that_cannot_be_reached_is_still_what_is_said(path, tmp_path):
    config = PruneConfig(target="macs", value=0.001, align=1, compensate="none")
    with pytest.raises(BudgetError):
        onnx_scsp.prune(path, tmp_path / "o.onnx", config)
    assert not (tmp_path / "o.onnx").exists()
