"""Nodes that hide what they do: functions of the file, files that the runtime optimised."""

from __future__ import annotations

from pathlib import Path

import independent_twin
import onnx
import onnx.inliner
import onnxruntime
import pytest
from net_builder import Net, image
from onnx import helper
from ops.case import MIXES

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import load
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.report.inspection import inspection_json, obstacles
from onnx_scsp.types import FreezeReason

CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")


def with_function(name: str, domain: str) -> onnx.ModelProto:
    """A network whose second activation is a function of the file that sums channels up."""
    n, x = image(17)
    x = n.relu(n.conv(x, 12))
    x = n.relu(n.conv(x, 10))
    n.channels[x] = 10
    y = n.op(name, x, domain=domain)
    model = n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])
    body = [
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("CumSum", ["r", "one"], ["b"]),
    ]
    one = helper.make_node("Constant", [], ["one"], value_int=1)
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function(domain, name, ["a"], ["b"], [one, *body], imports))
    return model


def pruned(model: onnx.ModelProto, folder: Path) -> PruneResult:
    source, output, plan = (folder / name for name in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(model, str(source))
    result = prune(source, output, CONFIG, plan_out=plan)
    assert independent_twin.compare(source, output, plan).error <= 1e-4
    return result


@pytest.mark.parametrize(("name", "domain"), [("Block", "pkg.blocks"), ("Gelu", "com.microsoft")])
def test_a_function_of_the_file_holds_what_it_sees(name: str, domain: str, tmp_path: Path) -> None:
    result = pruned(with_function(name, domain), tmp_path)
    assert result.layers["Conv0"] == (12, 6)
    assert result.layers["Conv2"] == (10, 10)
    assert {f.reason for f in result.plan.frozen if "Conv2" in f.layers} == {FreezeReason.NO_RULE}


@pytest.mark.parametrize("op_type", ["Relu", "CumSum"])
def test_a_function_written_out_is_followed_as_far_as_its_operators_are(
    op_type: str, tmp_path: Path
) -> None:
    """What the reason advises: `onnx.inliner`."""
    model = with_function("Block", "pkg.blocks")
    if op_type == "Relu":
        (function,) = model.functions
        del function.node[-1]
        function.output[:] = ["r"]
    result = pruned(onnx.inliner.inline_local_functions(model), tmp_path)
    assert result.layers["Conv2"] == (10, 5 if op_type == "Relu" else 10)


def test_obstacles_name_the_macs_at_stake(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(with_function("Block", "pkg.blocks"), str(source))
    found = find_groups(load(source))
    blocked = next(f for f in obstacles(found) if f.reason is FreezeReason.NO_RULE)
    macs = {layer.node: layer.macs for layer in found.layers}
    assert found.macs_at_stake(blocked) == macs["Conv2"] > 0
    record = inspection_json(found)["obstacles"]
    entry = next(e for e in record if e["reason"] == "NO_RULE")
    assert entry["macs_share"] == pytest.approx(macs["Conv2"] / found.macs)
    assert entry["layers"] == ["Conv2"]
    assert [e["macs"] for e in record] == sorted((e["macs"] for e in record), reverse=True)


def residual(n: Net, x: str) -> str:
    """A block that the runtime's optimiser fuses: residual input, activation."""
    x = n.relu(n.bn(n.conv(x, 16)))
    y = n.conv(n.relu(n.bn(n.conv(x, 16))), 16)
    return n.relu(n.op("Add", y, x))


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_a_model_that_the_runtime_optimised_is_cut(level: str, tmp_path: Path) -> None:
    result = pruned(optimised(level, tmp_path), tmp_path)
    cut = [node for node, (before, after) in result.layers.items() if after < before]
    assert len(cut) >= 3


def test_a_layout_for_one_processor_is_held_with_its_reason(tmp_path: Path) -> None:
    model = optimised("ALL", tmp_path)
    if not any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
        pytest.skip("this processor has no blocked layout")
    source = tmp_path / "in.onnx"
    onnx.save(model, str(source))
    found = find_groups(load(source))
    assert any(op.startswith("com.microsoft.nchwc.") for op in found.ops_without_rule)


def optimised(level: str, folder: Path) -> onnx.ModelProto:
    n, x = image(17)
    model = n.build(n.head(residual(n, residual(n, x))), output_shape=["N", 5])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return onnx.load(str(folder / "optimised.onnx"))


def test_a_sum_over_channels_is_named_as_such(tmp_path: Path) -> None:
    """The function's body, written out: the same obstacle under its own reason."""
    n, x = image(17)
    y = n.op("CumSum", n.relu(n.conv(x, 12)), n.const(1))
    source = tmp_path / "in.onnx"
    onnx.save(n.build(n.head(n.conv(y, 8)), output_shape=["N", 5]), str(source))
    found = find_groups(load(source))
    assert {f.reason for f in found.frozen if "Conv0" in f.layers} == {MIXES}
