"""Folding: a survivor becomes the mean of its cluster; what that means under a normalisation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from net_builder import Net, image
from nets import NETS

import onnx_scsp
from compensate.nets import coupling_of, double
from onnx_scsp.compensate.fold import fold
from onnx_scsp.couple import Coupling
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.types import GroupCut, PrunePlan

HALF = onnx_scsp.PruneConfig(
    target="ratio", value=0.5, align=1, method="folding", synthetic=False, compensate="fold"
)


def plan_of(coupling: Coupling, absorbed: dict[int, int]) -> PrunePlan:
    """A plan for the first group: some units absorb others."""
    group = coupling.map.groups[0]
    keep = tuple(unit for unit in range(group.n_units) if unit not in absorbed)
    cut = GroupCut(group.id, group.n_units, keep, absorbed)
    return PrunePlan(1, coupling.map.model_sha256, {"compensate": "fold"}, (cut,),
                     coupling.map.groups, coupling.map.frozen)  # fmt: skip


def arrays(coupling: Coupling, node: int) -> list[np.ndarray]:
    return [
        np.asarray(coupling.walk.constants.array(name), np.float64)
        for name in coupling.walk.graph.nodes[node].inputs[1:]
    ]


def test_without_normalisation_filters_and_biases_are_averaged() -> None:
    n, x = image()
    coupling = coupling_of(n.build(n.conv(n.relu(n.conv(x, 4)), 3)))
    weight, bias = arrays(coupling, 0)
    found = fold(coupling, plan_of(coupling, {1: 0, 3: 0}))
    names = coupling.walk.graph.nodes[0].inputs[1:]
    assert set(found) == set(names)
    new_weight, new_bias = (found[name] for name in names)
    np.testing.assert_allclose(new_weight[0], weight[[0, 1, 3]].mean(axis=0), rtol=1e-6)
    assert new_bias[0] == pytest.approx(bias[[0, 1, 3]].mean(), rel=1e-6)
    np.testing.assert_array_equal(new_weight[1:], weight[1:])
    np.testing.assert_array_equal(new_bias[1:], bias[1:])


@pytest.mark.parametrize("bias", [True, False])
def test_under_a_normalisation_what_it_sees_is_averaged(bias: bool) -> None:
    n, x = image()
    y = n.bn(n.conv(x, 4, bias=bias))
    coupling = coupling_of(n.build(n.conv(n.relu(y), 3)))

    def normal(values: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Filters and shifts as the normalisation's scale meets them."""
        conv, norm = coupling.walk.graph.nodes[:2]
        read = [
            np.asarray(values.get(name, coupling.walk.constants.array(name)), np.float64)
            for name in (*conv.inputs[1:], *norm.inputs[1:])
        ]
        weight, b, (g, h, m, v) = read[0], read[1] if bias else 0.0, read[-4:]
        deviation = np.sqrt(v + float(norm.attr("epsilon", 1e-5)))
        return weight / deviation[:, None, None, None], (b - m) / deviation, g, h

    before, after = normal({}), normal(fold(coupling, plan_of(coupling, {3: 1, 2: 1})))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new[1], old[[1, 2, 3]].mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(new[[0, 2, 3]], old[[0, 2, 3]], rtol=1e-5)


def test_depthwise_filters_behind_are_averaged_too() -> None:
    n, x = image()
    y = n.depthwise(n.relu(n.conv(x, 4)))
    coupling = coupling_of(n.build(n.conv(n.relu(y), 3)))
    name = coupling.walk.graph.nodes[2].inputs[1]
    old = np.asarray(coupling.walk.constants.array(name))
    found = fold(coupling, plan_of(coupling, {2: 3}))
    np.testing.assert_allclose(found[name][3], old[[2, 3]].mean(axis=0), rtol=1e-6)


def test_quantised_producers_stay_as_they_are() -> None:
    model = from_proto(NETS["quantised_weights"]())
    coupling = coupling_of(model.proto)
    assert fold(coupling, plan_of(coupling, {1: 0})) == {}


def test_nothing_absorbed_nothing_folded() -> None:
    n, x = image()
    coupling = coupling_of(n.build(n.conv(n.relu(n.conv(x, 4)), 3)))
    assert fold(coupling, plan_of(coupling, {})) == {}


# ---- whole runs -------------------------------------------------------------------------------


def doubled() -> Net:
    n, x = image()
    y = n.conv(x, 8, bias=False)
    z = n.bn(y)
    double(n, y)
    for name in n.nodes[1].input[1:]:
        n.weights[name][4:] = n.weights[name][:4]
    n.head(n.relu(z))
    return n


def gap(a: onnx.ModelProto, b: onnx.ModelProto) -> float:
    feeds = {"x": np.random.default_rng(5).standard_normal((16, 3, 8, 8)).astype(np.float32)}
    found = []
    for proto in (a, b):
        with open_variant(proto, from_proto(proto)) as session:
            found.append(next(iter(run_session(session, feeds).values())))
    return float(np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())


def test_copies_fold_without_loss() -> None:
    n = doubled()
    model = from_proto(n.build(n.nodes[-1].output[0]))
    plan = onnx_scsp.make_plan(model, HALF)
    assert [len(cut.keep) for cut in plan.cuts] == [4]
    assert gap(model.proto, onnx_scsp.apply_plan(model, plan).proto) < 1e-5


def test_folding_beats_dropping() -> None:
    n, x = image(seed=3)
    n.head(n.block(n.block(x, 16), 16))
    near = next(name for name in n.weights if n.weights[name].shape == (16, 16, 3, 3))
    n.weights[near][8:] = n.weights[near][:8] + 0.05 * n.weights[near][8:]
    model = from_proto(n.build(n.nodes[-1].output[0]))
    gaps = [
        gap(model.proto, onnx_scsp.apply_plan(
            model, onnx_scsp.make_plan(model, replace(HALF, compensate=name))).proto)
        for name in ("fold", "none")
    ]  # fmt: skip
    assert gaps[0] < gaps[1]


@pytest.mark.parametrize(
    "name", "residual_projection concat_branches depthwise_multiplier2 channel_shuffle".split()
)
def test_the_oracles_hold_after_folding(name: str, tmp_path: Path) -> None:
    onnx.save(NETS[name](), tmp_path / "a.onnx")
    result = onnx_scsp.prune(tmp_path / "a.onnx", tmp_path / "b.onnx", HALF,
                             plan_out=tmp_path / "p.json")  # fmt: skip
    assert result.report
    assert any(cut.absorbed_by for cut in result.plan.cuts)
    assert result.plan.refit
    plan = onnx_scsp.read_plan(tmp_path / "p.json")
    assert onnx_scsp.verify(tmp_path / "a.onnx", tmp_path / "b.onnx", plan)


def test_the_oracles_notice_means_that_the_plan_does_not_name(tmp_path: Path) -> None:
    onnx.save(NETS["residual_projection"](), tmp_path / "a.onnx")
    result = onnx_scsp.prune(tmp_path / "a.onnx", tmp_path / "b.onnx", HALF)
    silent = replace(result.plan, refit=())
    assert not onnx_scsp.verify(tmp_path / "a.onnx", tmp_path / "b.onnx", silent)


def test_the_same_plan_folds_to_the_same_bytes(tmp_path: Path) -> None:
    onnx.save(NETS["residual_projection"](), tmp_path / "a.onnx")
    first = onnx_scsp.prune(tmp_path / "a.onnx", tmp_path / "b.onnx", HALF)
    onnx_scsp.prune(tmp_path / "a.onnx", tmp_path / "c.onnx", plan=first.plan)
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
