"""Means and deviations behind a cut return to what they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from graph.small import DIGITS
from net_builder import Net, image
from nets import NETS

import onnx_scsp
from compensate.nets import coupling_of, images
from onnx_scsp.calibration import CalibrationData, open_calibration
from onnx_scsp.compensate import Reconstruction
from onnx_scsp.compensate.moments import match_moments
from onnx_scsp.couple import Coupling
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import open_variant, run_session, with_outputs
from onnx_scsp.types import GroupCut, PrunePlan

BN = onnx_scsp.PruneConfig(
    target="ratio", value=0.5, align=1, method="l2", compensate="bn", synthetic=False
)


def plan_of(
    coupling: Coupling, keep: list[int], absorbed: dict[int, int] | None = None
) -> PrunePlan:
    group = coupling.map.groups[0]
    cut = GroupCut(group.id, group.n_units, tuple(keep), absorbed or {})
    return PrunePlan(1, coupling.map.model_sha256, {"compensate": "bn"}, (cut,),
                     coupling.map.groups, coupling.map.frozen)  # fmt: skip


def matched(coupling: Coupling, plan: PrunePlan, count: int = 64) -> Reconstruction:
    return match_moments(coupling, plan, images(count), count)


def moments(proto: onnx.ModelProto, value: str, count: int = 64) -> np.ndarray:
    """Mean and deviation of each channel, (2, channels)."""
    with open_variant(with_outputs(proto, [value]), from_proto(proto)) as session:
        runs = [run_session(session, batch, [value])[value] for batch in images(count)]
    seen = np.moveaxis(np.concatenate(runs), 1, 0)
    seen = seen.reshape(len(seen), -1).astype(np.float64)
    return np.stack([seen.mean(axis=1), seen.std(axis=1)])


def two_layers(kept: bool) -> tuple[Net, str, str]:
    """A layer that is cut and one that reads it, with or without normalisation behind."""
    n, x = image()
    y = n.relu(n.conv(x, 8))
    z = n.conv(y, 6, bias=not kept)
    end = n.bn(z) if kept else z
    n.conv(n.relu(end), 4)
    return n, z, end


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("absorbed", [{}, {4: 0, 5: 1, 6: 2, 7: 3}])
def test_behind_the_cut_means_and_deviations_are_as_they_were(
    kept: bool, absorbed: dict[int, int]
) -> None:
    n, _, end = two_layers(kept)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    plan = plan_of(coupling, [0, 1, 2, 3], absorbed)
    result = onnx_scsp.apply_plan(
        coupling.model, plan, calibration=data_of(coupling.model, images(64))
    )
    bare = onnx_scsp.apply_plan(coupling.model, replace(plan, config={"compensate": "none"}))
    assert result.proto is not None and bare.proto is not None
    before, cut, after = (
        moments(proto, end) for proto in (coupling.model.proto, bare.proto, result.proto)
    )
    # every eighth sample is held out, so the moments agree but for those
    assert np.abs(before - cut).max() > 0.2
    assert np.abs(before - after).max() < 0.1 * np.abs(before - cut).max()


def data_of(model: Model, batches: list[dict[str, np.ndarray]]) -> CalibrationData:
    return open_calibration(np.concatenate([batch["x"] for batch in batches]), model)


def test_a_normalisation_that_is_kept_takes_the_new_statistics() -> None:
    n, _, _ = two_layers(kept=True)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    norm = next(node for node in n.nodes if node.op_type == "BatchNormalization")
    weights = matched(coupling, plan_of(coupling, [0, 1, 2, 3])).weights
    assert set(norm.input[3:5]) <= set(weights)
    assert norm.input[1] not in weights
    assert (weights[norm.input[4]] >= 0).all()


def test_a_channel_that_has_become_constant_is_not_stretched() -> None:
    n, x = image()
    y = n.relu(n.conv(x, 4))
    weight = np.zeros((2, 4, 1, 1))
    weight[0, 3] = weight[1, 0] = 1.0
    n.op("Conv", y, n.const(weight), n.const([0.0, 0.0]), channels=2)
    n.conv(n.relu(n.nodes[-1].output[0]), 3)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    reader = coupling.walk.graph.nodes[2]
    found = matched(coupling, plan_of(coupling, [0, 1, 2])).weights
    np.testing.assert_array_equal(found[reader.inputs[1]][:, 3], weight[:, 3])  # cut next
    assert found[reader.inputs[2]][0] > 0  # its mean is all that is left of it


def test_copies_merge_exactly_and_nothing_moves() -> None:
    n, x = image()
    y = n.conv(x, 4)
    for name in n.nodes[0].input[1:]:
        n.weights[name][2:] = n.weights[name][:2]
    n.conv(n.relu(y), 3)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    found = matched(coupling, plan_of(coupling, [0, 1], {2: 0, 3: 1}))
    assert all(fit.before < 1e-9 for fit in found.fits)
    for name, array in found.weights.items():
        np.testing.assert_allclose(array, coupling.walk.constants.array(name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", ["digits_bn", "digits_folded"])
def test_a_trained_network_diverges_less(net: str) -> None:
    model = onnx_scsp.load(DIGITS / f"{net}.onnx")
    inputs = digit_images()
    data = open_calibration(inputs[:96], model)
    outputs = [run(model.proto, inputs[96:])]
    merged = onnx_scsp.make_plan(model, replace(BN, compensate="merge"))
    for compensate in ("bn", "merge"):
        plan = replace(merged, config={**merged.config, "compensate": compensate})
        pruned = onnx_scsp.apply_plan(model, plan, calibration=data)
        assert pruned.proto is not None
        outputs.append(run(pruned.proto, inputs[96:]))
    original, matched_, bare = outputs
    gaps = [float(np.square(original - other).mean()) for other in (matched_, bare)]
    assert gaps[0] < 0.8 * gaps[1]


def digit_images() -> np.ndarray:
    from sklearn.datasets import load_digits

    images_ = load_digits().images[:256] / 16.0
    return np.asarray(images_[:, None], np.float32)


def run(proto: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    name = proto.graph.input[0].name
    return np.asarray(next(iter(independent_twin.run(proto, {name: inputs}).values())), float)


@pytest.mark.parametrize(
    "name", "residual_projection depthwise_separable channel_shuffle shared_bias".split()
)
def test_the_oracles_hold(name: str, tmp_path: Path) -> None:
    onnx.save(NETS[name](), tmp_path / "a.onnx")
    model = onnx_scsp.load(tmp_path / "a.onnx")
    rng = np.random.default_rng(0)
    data = open_calibration(rng.standard_normal((48, 3, 8, 8)).astype(np.float32), model)
    plan = onnx_scsp.make_plan(model, BN, calibration=data)
    pruned = onnx_scsp.apply_plan(model, plan, calibration=data)
    assert pruned.plan.refit
    assert onnx_scsp.verify(model, pruned)
    silent = replace(pruned.plan, refit=())
    assert not onnx_scsp.verify(model, pruned, silent)


def test_a_layer_whose_outputs_are_constant_is_handled() -> None:
    n, x = image()
    y = n.conv(x, 4)
    n.weights[n.nodes[0].input[1]][...] = 0.0  # only biases are left
    n.conv(n.op("Sigmoid", y), 3, 1)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    found = matched(coupling, plan_of(coupling, [0, 1]))
    (fit,) = found.fits
    assert np.isfinite(fit.before)
    assert fit.after < 1e-6 < fit.before
