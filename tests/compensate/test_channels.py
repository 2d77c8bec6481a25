"""Fits from Gram matrices of channels: exact where channels can be rebuilt, else no worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from net_builder import Net, image
from nets import NETS
from observe.kinds import ALL
from observe.single import single

import onnx_scsp
from compensate.nets import coupling_of, double, images, repair, second_halves, without
from onnx_scsp.calibration import open_calibration
from onnx_scsp.compensate import sweep
from onnx_scsp.compensate.channels import ChannelFit
from onnx_scsp.observe.rows import channels_at, draw, draw_inputs


def planted(groups: int = 1) -> tuple[Net, str]:
    """A layer whose second half of channels copies the first, and a reader without padding."""
    n, x = image()
    y = n.conv(x, 8)
    double(n, y, blocks=groups)
    z = n.op("Conv", n.relu(y), n.random(6, 8 // groups, 3, 3), n.random(6), channels=6,
             group=groups)  # fmt: skip
    n.conv(n.relu(z), 4)
    return n, y


@pytest.mark.parametrize("groups", [1, 2])
def test_copies_are_made_up_for_exactly(groups: int) -> None:
    n, y = planted(groups)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    keep = without(coupling, y, second_halves(8, groups))
    found = repair(coupling, keep, images(64), by_channel=True)
    assert found.before > 0.05
    assert found.after < 1e-3


def test_without_copies_there_is_an_error_left() -> None:
    n, x = image()
    y = n.conv(x, 8)
    n.conv(n.relu(y), 4)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    found = repair(coupling, without(coupling, y, [0, 1, 2, 3]), images(64), by_channel=True)
    assert 0.01 < found.after < found.before


def test_a_constant_channel_goes_into_the_bias_but_for_the_border() -> None:
    n, x = image()
    y = n.conv(x, 4)
    n.weights[n.nodes[0].input[1]][2] = 0.0
    n.weights[n.nodes[0].input[2]][2] = 3.0
    n.op("Conv", n.relu(y), n.random(5, 4, 3, 3), n.random(5), channels=5)
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    found = repair(coupling, without(coupling, y, [2]), images(64), by_channel=True)
    assert found.after < 1e-3 < 0.1 < found.before


@pytest.mark.parametrize(
    "name", "residual_projection depthwise_separable grouped conv_transpose gemm_stack".split()
)
def test_no_layer_gets_worse_on_held_out_samples(name: str) -> None:
    coupling = coupling_of(NETS[name]())
    rng = np.random.default_rng(0)
    keep = np.ones(coupling.n_units, bool)
    for group in coupling.map.groups:
        start = coupling.offsets[group.id]
        keep[start : start + group.n_units : 2] = False
    dims = coupling.model.proto.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(dim.dim_value for dim in dims[1:])
    batches = [{"x": rng.standard_normal((16, *shape)).astype(np.float32)} for _ in range(4)]
    found = repair(coupling, keep, batches, by_channel=True).found
    assert found.fits
    assert all(0 <= fit.after <= fit.before for fit in found.fits)
    assert any(fit.share is not None for fit in found.fits)


def test_patches_that_are_too_large_are_fitted_by_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, y = planted()
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    keep = without(coupling, y, second_halves(8))
    monkeypatch.setattr(sweep, "LARGEST_GRAM", 16)  # 4 channels x 9 positions are more
    calls: list[str] = []
    fitting = sweep.ChannelFit

    def noted(layer: sweep.Linear, kept: np.ndarray) -> ChannelFit:
        calls.append(layer.node.name)
        return fitting(layer, kept)

    monkeypatch.setattr(sweep, "ChannelFit", noted)
    found = repair(coupling, keep, images(64))
    assert len(calls) == 2
    assert found.after < 1e-3


def test_too_many_channels_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    n, y = planted()
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    monkeypatch.setattr(sweep, "LARGEST_GRAM", 16)
    monkeypatch.setattr(sweep, "MOST_CHANNELS", 5)
    layers = sweep.layers_to_refit(coupling, without(coupling, y, [0]))
    assert [layer.node.name for layer in layers] == []


# ---- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_channels_of_every_kind_of_layer_are_read_where_they_are(kind: str) -> None:
    build, shape = ALL[kind]
    one = single(build, *shape)
    rng = np.random.default_rng(0)
    place = draw_inputs(one.layer, one.x.shape, 3, rng)
    found = channels_at(one.layer, one.x, place)
    layer = one.layer
    samples = place.shape[0]
    moved = np.moveaxis(one.x, layer.axis, -1).reshape(samples, -1, layer.inputs)
    expected = np.stack([moved[i][place[i]] for i in range(samples)]).reshape(-1, layer.inputs)
    width = layer.inputs // layer.groups
    assert found.shape == (layer.groups, place.size, width)
    for g in range(layer.groups):
        np.testing.assert_array_equal(found[g], expected[:, g * width : (g + 1) * width])


@pytest.mark.parametrize("kind", ALL)
def test_where_nothing_is_missing_every_kind_of_layer_stays(kind: str) -> None:
    build, shape = ALL[kind]
    one = single(build, *shape)
    rng = np.random.default_rng(0)
    fitted = ChannelFit(one.layer, np.ones(one.layer.inputs, bool))
    place = draw_inputs(one.layer, one.x.shape, 50, rng)
    seen = draw(one.layer, one.x.shape, one.y.shape, 50, rng)
    fitted.add(one.x, one.x, place, seen, np.zeros(len(place), bool))
    matrix, bias = one.copy.matrix(one.layer), one.copy.bias(one.layer)
    found = fitted.solve(matrix, bias)
    assert found is not None
    assert found.before == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(found.matrix, matrix, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-6, atol=1e-9)


def test_a_whole_run_passes_every_check(tmp_path: Path) -> None:
    onnx.save(NETS["residual_projection"](), tmp_path / "a.onnx")
    model = onnx_scsp.load(tmp_path / "a.onnx")
    rng = np.random.default_rng(0)
    data = open_calibration(rng.standard_normal((48, 3, 8, 8)).astype(np.float32), model)
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, compensate="gram")
    bare = replace(config, compensate="none")
    feeds = rng.standard_normal((32, 3, 8, 8)).astype(np.float32)
    outputs = [run(model.proto, feeds)]
    for each in (config, bare):
        plan = onnx_scsp.make_plan(model, each, calibration=data)
        pruned = onnx_scsp.apply_plan(model, plan, calibration=data)
        assert onnx_scsp.verify(model, pruned)
        outputs.append(run(pruned.proto, feeds))
    original, repaired, cut = outputs
    assert np.square(original - repaired).mean() < 0.7 * np.square(original - cut).mean()


def run(proto: onnx.ModelProto | None, feeds: np.ndarray) -> np.ndarray:
    assert proto is not None
    return np.asarray(next(iter(independent_twin.run(proto, {"x": feeds}).values())))
