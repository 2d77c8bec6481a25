"""LayerNorm over channels, cut on request: its statistics are then those of what stays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from net_builder import Net, image
from onnx import numpy_helper

import onnx_scsp
from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import ConfigError, PlanError, VerifyError
from onnx_scsp.ops import RULES, approximating
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.types import Role

CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none", approximate=True)
WIDTH = 12


def normalised(n: Net, x: str, bias: bool = True, **attrs: float) -> str:
    """LayerNormalization over the channels of a picture."""
    rows = n.op("Transpose", x, perm=[0, 2, 3, 1])
    vectors = [n.positive(WIDTH)] + ([n.random(WIDTH)] if bias else [])
    rows = n.op("LayerNormalization", rows, *vectors, axis=-1, **attrs)
    y = str(n.op("Transpose", rows, perm=[0, 3, 1, 2]))
    n.channels[y] = WIDTH
    return y


def plain(n: Net, x: str) -> str:
    return normalised(n, n.conv(x, WIDTH))


def without_bias(n: Net, x: str) -> str:
    return normalised(n, n.conv(x, WIDTH), bias=False, epsilon=0.1)


def convnext(n: Net, x: str) -> str:
    """Two residual blocks on one spine: depthwise, norm, wider and back, scaled, added."""
    x = normalised(n, n.conv(x, WIDTH))
    for _ in range(2):
        y = n.conv(normalised(n, n.depthwise(x)), 2 * WIDTH, 1)
        y = n.op("Mul", n.conv(n.op("Sigmoid", y), WIDTH, 1), n.positive(WIDTH, 1, 1))
        x = n.op("Add", x, y)
    return str(x)


def shared(n: Net, x: str) -> str:
    """One scale for two normalisations of other channels."""
    scale = n.positive(WIDTH)
    parts = []
    for _ in range(2):
        rows = n.op("Transpose", n.conv(x, WIDTH), perm=[0, 2, 3, 1])
        rows = n.op("LayerNormalization", rows, scale, axis=-1)
        parts.append(n.op("Transpose", rows, perm=[0, 3, 1, 2]))
        n.channels[parts[-1]] = WIDTH
    return n.concat(*parts)


def after_a_stored_constant(n: Net, x: str) -> str:
    """The weight comes from a node, which a variant with other values does without."""
    x = normalised(n, n.conv(x, WIDTH))
    w = n.op("Constant", value=numpy_helper.from_array(
        n.rng.standard_normal((WIDTH, WIDTH, 1, 1)).astype(np.float32)))  # fmt: skip
    shape = n.const([WIDTH, WIDTH, 1, 1])
    same = n.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([0.2], "f4")))
    for weight in (w, same):
        x = n.op("Conv", x, weight, channels=WIDTH)
    return normalised(n, x)


def local(n: Net, x: str) -> str:
    """LRN between two convolutions, and once more over channels of two layers."""
    x = n.op("LRN", n.relu(n.conv(x, WIDTH)), size=5, alpha=0.5, bias=1.0, beta=0.75)
    n.channels[x] = WIDTH
    return str(n.op("LRN", n.conv(x, WIDTH), size=3, alpha=0.3, bias=1.0, channels=WIDTH))


def written_out(n: Net, x: str) -> str:
    """Means and differences over the channels of a picture, as exporters spell a norm."""
    x = n.conv(x, WIDTH)
    centred = n.op("Sub", x, n.op("ReduceMean", x, axes=[1]))
    spread = n.op("ReduceMean", n.op("Mul", centred, centred), axes=[1])
    spread = n.op("Sqrt", n.op("Add", spread, n.const(0.01)))
    y = n.op("Mul", n.op("Div", centred, spread), n.positive(WIDTH, 1, 1))
    n.channels[y] = WIDTH
    return str(y)


def strongest(n: Net, x: str) -> str:
    """Largest, smallest and mean channel, as a gate over positions."""
    x = n.conv(x, WIDTH)
    seen = [n.op(f"Reduce{kind}", x, axes=[1]) for kind in ("Max", "Min", "Mean")]
    gate = n.op("Concat", *seen, axis=1)
    n.channels[gate] = 3
    y = str(n.op("Mul", x, n.op("Sigmoid", n.conv(gate, 1))))
    n.channels[y] = WIDTH
    return y


def network(body: Callable[[Net, str], str]) -> onnx.ModelProto:
    n, x = image()
    y = body(n, x)
    return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


def pruned(model: onnx.ModelProto, folder: Path, config: PruneConfig = CONFIG) -> PruneResult:
    onnx.save(model, str(folder / "in.onnx"))
    return prune(folder / "in.onnx", folder / "out.onnx", config, plan_out=folder / "plan.json")


CUT = [plain, without_bias, convnext, after_a_stored_constant, local, written_out, strongest]


@pytest.mark.parametrize("body", CUT)
def test_normalised_channels_go_and_the_independent_twin_agrees(
    body: Callable[[Net, str], str], tmp_path: Path
) -> None:
    result = pruned(network(body), tmp_path)
    assert result.layers["Conv0"] == (WIDTH, WIDTH // 2)
    assert result.report
    files = (tmp_path / name for name in ("in.onnx", "out.onnx", "plan.json"))
    assert independent_twin.compare(*files).error <= 1e-4


def test_a_shared_scale_is_cut_for_each_use(tmp_path: Path) -> None:
    result = pruned(network(shared), tmp_path)
    halves = [after for before, after in result.layers.values() if before == WIDTH]
    assert halves == [WIDTH // 2] * 2
    assert result.report


@pytest.mark.parametrize("method", ["scsp", "one-per-cluster"])
def test_merging_is_verified(method: str, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, method=method, compensate="merge", merge_threshold=0.0)
    result = pruned(network(convnext), tmp_path, config)
    assert any(cut.absorbed_by for cut in result.plan.cuts)
    assert result.report


def test_without_the_option_they_stay(tmp_path: Path) -> None:
    result = pruned(network(plain), tmp_path, dataclasses.replace(CONFIG, approximate=False))
    assert result.layers["Conv0"] == (WIDTH, WIDTH)


def test_statistics_over_zeros_are_not_those_of_what_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A twin that only masks readers differs: it is the restriction that the oracle rests on."""
    monkeypatch.setattr("onnx_scsp.proof.rewrite.restrict_statistics", lambda *_: None)
    with pytest.raises(VerifyError, match="masked twin"):
        pruned(network(plain), tmp_path)


@pytest.mark.parametrize("body", [local, written_out, strongest])
def test_what_goes_has_to_be_left_out_where_it_does_not_count(
    body: Callable[[Net, str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("onnx_scsp.proof.rewrite.zero_reductions", lambda *_: None)
    with pytest.raises(VerifyError, match="masked twin"):
        pruned(network(body), tmp_path)


def test_neighbours_have_to_stay_neighbours_when_channels_are_permuted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("onnx_scsp.proof.rewrite.keep_neighbours", lambda *_: None)
    with pytest.raises(VerifyError, match="permutation"):
        pruned(network(local), tmp_path)


@pytest.mark.parametrize("body", [local, written_out])
def test_without_the_option_a_normalisation_holds_its_channels(
    body: Callable[[Net, str], str], tmp_path: Path
) -> None:
    result = pruned(network(body), tmp_path, dataclasses.replace(CONFIG, approximate=False))
    assert result.layers["Conv0"] == (WIDTH, WIDTH)
    reasons = {f.detail for f in result.plan.frozen if "Conv0" in f.layers}
    assert any("normalis" in detail for detail in reasons)


def test_a_plan_that_says_restricted_wrongly_is_refused(tmp_path: Path) -> None:
    pruned(network(strongest), tmp_path)
    document = json.loads((tmp_path / "plan.json").read_text())
    found = [r for group in document["groups"] for r in group.get("reductions", ())]
    assert found
    assert all(r["restricted"] is True for r in found)
    found[0]["restricted"] = False
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    with pytest.raises(PlanError, match="not as the model has it"):
        prune(tmp_path / "in.onnx", tmp_path / "again.onnx", plan=plan)
    found[0]["restricted"] = "no"
    with pytest.raises(PlanError, match="neither true nor false"):
        onnx_scsp.plan_from_json(json.dumps(document))


def test_a_plan_says_how_it_was_made_and_is_carried_out_so(tmp_path: Path) -> None:
    pruned(network(plain), tmp_path)
    plan = onnx_scsp.read_plan(tmp_path / "plan.json")
    assert plan.config["approximate"] is True
    again = prune(tmp_path / "in.onnx", tmp_path / "again.onnx", plan=plan)
    assert again.report
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()
    assert onnx_scsp.verify(tmp_path / "in.onnx", tmp_path / "out.onnx", plan)


def test_a_plan_made_otherwise_is_refused(tmp_path: Path) -> None:
    pruned(network(plain), tmp_path)
    document = json.loads((tmp_path / "plan.json").read_text())
    document["config"]["approximate"] = False
    plan = onnx_scsp.plan_from_json(json.dumps(document))
    with pytest.raises(PlanError):
        prune(tmp_path / "in.onnx", tmp_path / "again.onnx", plan=plan)
    document["config"]["approximate"] = "yes"
    with pytest.raises(PlanError, match="neither true nor false"):
        onnx_scsp.plan_from_json(json.dumps(document))


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="neither true nor false"):
        PruneConfig(approximate=1)  # type: ignore[arg-type]


def test_a_rule_of_the_users_own_stays_in_force() -> None:
    key = ("", "LayerNormalization")
    mine = dataclasses.replace(RULES[key], note="mine")
    assert approximating({**RULES, key: mine})[key] is mine
    assert approximating(RULES)[key] is not RULES[key]


def test_a_norm_over_several_axes_holds_as_before(tmp_path: Path) -> None:
    n, x = image()
    x = n.conv(n.relu(n.conv(x, 10)), WIDTH)
    y = n.op("LayerNormalization", x, n.positive(WIDTH, 8, 8), axis=1)
    n.channels[y] = WIDTH
    result = pruned(n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5]), tmp_path)
    assert result.layers["Conv2"] == (WIDTH, WIDTH)
    assert result.layers["Conv0"] == (10, 5)


def test_the_scale_is_a_member(tmp_path: Path) -> None:
    result = pruned(network(plain), tmp_path)
    roles = {member.role for group in result.plan.groups for member in group.members}
    assert Role.SCALES in roles
