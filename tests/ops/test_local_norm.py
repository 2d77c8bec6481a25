"""Local response normalisation written out, as PyTorch's exporters do: a window over channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from branches import squeeze
from net_builder import Net, image

from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import VerifyError
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.types import FreezeReason

CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none", approximate=True)
WIDTH = 12
Body = Callable[[Net, str], str]


def size(n: Net, x: str, axis: int) -> str:
    return str(n.op("Gather", n.op("Shape", x), n.const([axis]), axis=0))


def divide(n: Net, x: str, mean: str) -> str:
    scale = n.op("Add", n.op("Mul", mean, n.const(0.8)), n.const(1.0))
    y = str(n.op("Div", x, n.op("Pow", scale, n.const(0.75))))
    n.channels[y] = n.channels[x]
    return y


def exported(n: Net, x: str, window: int = 5) -> str:
    """As TorchScript writes `local_response_norm` of pictures: five axes, and an If."""
    square = n.op("Mul", x, x)
    deep = n.op("Concat", size(n, x, 0), n.const([1]), size(n, x, 1), size(n, x, 2),
                n.const([-1]), axis=0)  # fmt: skip
    before, after = window // 2, (window - 1) // 2
    pads = n.const([0, 0, before, 0, 0, 0, 0, after, 0, 0])
    padded = n.op("Pad", n.op("Reshape", square, deep), pads)
    mean = n.op("AveragePool", padded, kernel_shape=[window, 1, 1], count_include_pad=1)
    mean = n.op("Reshape", squeeze(n, mean, 1), n.op("Shape", x))
    return divide(n, x, mean)


def even(n: Net, x: str) -> str:
    return exported(n, x, window=4)


def exported_with_sizes(n: Net, x: str) -> str:
    """As the newer exporter writes it: sizes spelled, no If."""
    deep = n.op("Reshape", n.op("Mul", x, x), n.const([-1, 1, WIDTH, 8, 8]))
    padded = n.op("Pad", deep, n.const([0, 0, 1, 0, 0, 0, 0, 1, 0, 0]))
    mean = n.op("AveragePool", padded, kernel_shape=[3, 1, 1], count_include_pad=1)
    return divide(n, x, n.op("Squeeze", mean, n.const([1])))


def pool_that_pads(n: Net, x: str) -> str:
    """Padding by the pool itself, with and without counting it; one side by a Pad."""
    deep = n.op("Unsqueeze", n.op("Mul", x, x), n.const([1]))
    for attrs in ({"count_include_pad": 1}, {"count_include_pad": 0}):
        deep = n.op("AveragePool", deep, kernel_shape=[3, 1, 1], pads=[1, 0, 0] * 2, **attrs)
    padded = n.op("Pad", deep, n.const([0, 0, 2, 0, 0, 0, 0, 0, 0, 0]))
    mean = n.op("AveragePool", padded, kernel_shape=[5, 3, 3], pads=[0, 1, 1, 2, 1, 1])
    return divide(n, x, n.op("Squeeze", mean, n.const([1])))


def through_rows(n: Net, x: str) -> str:
    """Of sequences: four axes, windows of two ranks."""
    rows = n.op("Reshape", x, n.const([0, WIDTH, 64]))
    n.channels[rows] = WIDTH
    plane = n.op("Unsqueeze", n.op("Mul", rows, rows), n.const([1]))
    padded = n.op("Pad", plane, n.const([0, 0, 2, 0, 0, 0, 2, 0]))
    mean = n.op("AveragePool", padded, kernel_shape=[5, 1])
    y = divide(n, rows, n.op("Squeeze", mean, n.const([1])))
    return str(n.op("Reshape", y, n.const([0, WIDTH, 8, 8])))


def over_two_layers(n: Net, x: str) -> str:
    """Channels of two groups lie side by side under one window."""
    both = n.concat(n.conv(x, 4), n.conv(x, WIDTH - 4))
    return exported(n, both)


CUT: dict[Body, tuple[str, ...]] = {
    exported: ("Conv0",),
    exported_with_sizes: ("Conv0",),
    pool_that_pads: ("Conv0",),
    through_rows: ("Conv0",),
    over_two_layers: ("Conv2", "Conv3"),
}
"""Body -> layers whose channels lie under its window."""


def network(body: Body) -> onnx.ModelProto:
    n, x = image()
    y = body(n, n.relu(n.conv(x, WIDTH)))
    n.channels[y] = WIDTH
    return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


def pruned(model: onnx.ModelProto, folder: Path, config: PruneConfig = CONFIG) -> PruneResult:
    onnx.save(model, str(folder / "in.onnx"))
    return prune(folder / "in.onnx", folder / "out.onnx", config, plan_out=folder / "plan.json")


def files(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "in.onnx", folder / "out.onnx", folder / "plan.json"


@pytest.mark.parametrize("body", CUT)
def test_channels_under_a_window_go_and_the_independent_twin_agrees(
    body: Body, tmp_path: Path
) -> None:
    result = pruned(network(body), tmp_path)
    widths = [result.layers[layer] for layer in CUT[body]]
    assert widths == [(before, before // 2) for before, _ in widths]
    assert result.report
    assert independent_twin.compare(*files(tmp_path)).error <= 1e-4
    onnx.checker.check_model(onnx.load(str(result.output)), full_check=True)


@pytest.mark.parametrize("body", CUT)
def test_what_goes_has_to_be_left_out(
    body: Body, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("onnx_scsp.proof.rewrite.zero_reductions", lambda *_: None)
    with pytest.raises(VerifyError, match="masked twin"):
        pruned(network(body), tmp_path)


@pytest.mark.parametrize("body", CUT)
def test_neighbours_have_to_stay_neighbours_when_channels_are_permuted(
    body: Body, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("onnx_scsp.proof.rewrite.keep_neighbours", lambda *_: None)
    with pytest.raises(VerifyError, match="permutation"):
        pruned(network(body), tmp_path)


@pytest.mark.parametrize("body", CUT)
def test_without_the_option_they_stay_and_the_window_is_named(body: Body, tmp_path: Path) -> None:
    result = pruned(network(body), tmp_path, dataclasses.replace(CONFIG, approximate=False))
    widths = [result.layers[layer] for layer in CUT[body]]
    assert widths == [(before, before) for before, _ in widths]
    held = [f for f in result.plan.frozen if set(CUT[body]) & set(f.layers)]
    assert {f.reason for f in held} == {FreezeReason.MIXES_CHANNELS}
    assert any("AveragePool slides a window over channels" in f.detail for f in held)


def test_a_window_without_a_centre_holds_its_channels(tmp_path: Path) -> None:
    result = pruned(network(even), tmp_path)
    assert result.layers["Conv0"] == (WIDTH, WIDTH)
    assert result.report


@pytest.mark.parametrize(
    "attrs",
    [
        {"kernel_shape": [3, 1, 1], "strides": [3, 1, 1]},
        {"kernel_shape": [3, 1, 1], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 1, 1], "pads": [1, 0, 0, 0, 0, 0]},
    ],
)
def test_other_windows_over_channels_hold_them(attrs: dict[str, object], tmp_path: Path) -> None:
    def other(n: Net, x: str) -> str:
        y = n.op("AveragePool", n.op("Unsqueeze", x, n.const([1])), **attrs)
        y = n.op("Squeeze", y, n.const([1]))
        n.channels[y] = WIDTH // 3 if "strides" in attrs else WIDTH
        return n.conv(y, WIDTH)

    result = pruned(network(other), tmp_path)
    assert result.layers["Conv0"] == (WIDTH, WIDTH)
    assert result.report


def test_a_window_that_shortens_the_axis_keeps_both_ends_of_it(tmp_path: Path) -> None:
    """Without padding, the outermost channels are no window's centre: they stay as neighbours."""

    def valid(n: Net, x: str) -> str:
        y = n.op("AveragePool", n.op("Unsqueeze", x, n.const([1])), kernel_shape=[5, 1, 1])
        y = n.op("Squeeze", y, n.const([1]))
        n.channels[y] = WIDTH - 4
        return n.conv(y, WIDTH)

    result = pruned(network(valid), tmp_path)
    assert result.layers["Conv0"] == (WIDTH, 4 + (WIDTH - 4) // 2)
    (group,) = (g for g in result.plan.groups if "Conv0" in g.layers)
    (window,) = group.reductions
    assert window.restricted
    assert (window.units[:2] < 0).all()
    assert (window.units[-2:] < 0).all()
    assert independent_twin.compare(*files(tmp_path)).error <= 1e-4


def alexnet() -> onnx.ModelProto:
    """Two normalised layers, three more, a classifier; overlapping pools, any batch."""
    n = Net(seed=3)
    x = n.input("N", 3, 32, 32)
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
    for width, kernel in ((8, 5), (16, 5)):
        x = exported(n, n.relu(n.conv(x, width, kernel)))
        x = n.op("MaxPool", x, **pool)
    for width in (24, 24, 16):
        x = n.relu(n.conv(x, width))
    x = n.op("MaxPool", x, **pool)
    rest = n.op("Concat", size(n, x, 0), n.const([-1]), axis=0)
    x = n.op("Reshape", x, rest)
    x = n.relu(n.gemm(x, 16 * 4 * 4, 32))
    return n.build(n.gemm(x, 32, 10), output_shape=["N", 10])


def test_a_small_alexnet_is_cut_in_every_layer_but_the_last(tmp_path: Path) -> None:
    result = pruned(alexnet(), tmp_path)
    widths = list(result.layers.values())
    assert widths[:-1] == [(before, before // 2) for before, _ in widths[:-1]]
    assert result.after.macs / result.before.macs < 1 / 3
    assert result.report
    assert independent_twin.compare(*files(tmp_path)).error <= 1e-4


def test_a_small_alexnet_keeps_what_it_normalises_without_the_option(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, approximate=False)
    result = pruned(alexnet(), tmp_path, config)
    assert [before == after for before, after in result.layers.values()] == [
        True, True, False, False, False, False, True,
    ]  # fmt: skip


def test_the_cut_network_normalises_over_what_stays(tmp_path: Path) -> None:
    """The written file against the formula, on the activation of the layer before it."""
    result = pruned(network(exported), tmp_path)
    written = onnx.load(str(result.output))
    (divided,) = (node for node in written.graph.node if node.op_type == "Div")
    x_name, y_name = divided.input[0], divided.output[0]
    for name in (x_name, y_name):
        written.graph.output.append(onnx.ValueInfoProto(name=name))
    found = independent_twin.run(written, independent_twin.random_inputs(written, 0))
    x, y = found[x_name], found[y_name]
    assert x.shape[1] == WIDTH // 2
    padded = np.pad(x**2, [(0, 0), (2, 2), (0, 0), (0, 0)])
    mean = sum(padded[:, k : k + WIDTH // 2] for k in range(5)) / 5
    assert np.allclose(y, x / (1.0 + 0.8 * mean) ** 0.75, rtol=1e-4)


@pytest.mark.parametrize("method", ["scsp", "output-aware"])
def test_readers_are_repaired_on_what_a_window_over_the_rest_makes(
    method: str, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, compensate="reconstruct", method=method)
    result = pruned(alexnet(), tmp_path, config)
    assert result.fits
    assert result.report
