"""Every operator of the rule table between two convolutions: channels go, or stay for a reason."""

from __future__ import annotations

from pathlib import Path

import independent_twin
import onnx
import pytest
from ops.case import is_runnable
from ops.cases import CASES, CHANNELS, Case

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import load
from onnx_scsp.ops import RULES
from onnx_scsp.pipeline import prune

FREE = [case for case in CASES if case.held is None]
HELD = [case for case in CASES if case.held is not None]
FIRST = "Conv0"


def name_of(case: Case) -> str:
    return case.name


@pytest.fixture(autouse=True)
def _installed_onnx_knows_the_operator_set(request: pytest.FixtureRequest) -> None:
    """Older supported versions stop at earlier operator sets; newer ones test those operators."""
    spec = getattr(request.node, "callspec", None)
    case = spec.params.get("case") if spec else None
    if case is not None and not is_runnable(case):
        pytest.skip(f"the installed onnx or onnxruntime lacks {case.op_type} {case.opset}")


def test_every_rule_has_a_case() -> None:
    assert {(case.domain, case.op_type) for case in CASES} == set(RULES)


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_case_contains_its_operator(case: Case) -> None:
    assert case.op_type in {node.op_type for node in case.build().graph.node}


@pytest.mark.parametrize("case", FREE, ids=name_of)
def test_half_of_the_channels_go_and_the_independent_twin_agrees(
    case: Case, tmp_path: Path
) -> None:
    source, output, plan = (tmp_path / name for name in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(case.build(), str(source))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    result = prune(source, output, config, plan_out=plan)
    assert result.layers[FIRST] == (CHANNELS, CHANNELS // 2)
    assert independent_twin.compare(source, output, plan).error <= 1e-4


@pytest.mark.parametrize("case", HELD, ids=name_of)
def test_the_channels_stay_and_the_operator_is_named_with_its_reason(
    case: Case, tmp_path: Path
) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(case.build(), str(source))
    found = find_groups(load(source))
    blocking = {
        entry.reason
        for entry in found.frozen
        if FIRST in entry.layers and f"({case.op_type})" in entry.node
    }
    assert case.held in blocking
    assert next(layer.free for layer in found.layers if layer.node == FIRST) == 0


@pytest.mark.parametrize("case", HELD, ids=name_of)
def test_the_rest_of_a_network_with_held_channels_is_still_cut(case: Case, tmp_path: Path) -> None:
    source, output, plan = (tmp_path / name for name in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(case.build(), str(source))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    result = prune(source, output, config, plan_out=plan)
    assert result.layers[FIRST] == (CHANNELS, CHANNELS)
    assert independent_twin.compare(source, output, plan).removed > 0
