"""Random networks made of blocks: whatever is wired together, the oracles hold."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import independent_twin
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_builder import Net, image

from onnx_scsp.config import PruneConfig
from onnx_scsp.pipeline import PruneResult, prune

Block = Callable[[Net, str, int], str]
WIDTHS = st.sampled_from([4, 6, 8, 12])
LONG = settings(max_examples=500, deadline=None, derandomize=True, database=None)
NETWORKS = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def conv(n: Net, x: str, width: int) -> str:
    return n.relu(n.conv(x, width))


def conv_bn(n: Net, x: str, width: int) -> str:
    return n.block(x, width)


def residual(n: Net, x: str, width: int) -> str:
    return n.relu(n.op("Add", x, n.bn(n.conv(n.block(x, width), n.channels[x]))))


def projected(n: Net, x: str, width: int) -> str:
    return n.relu(n.op("Add", n.bn(n.conv(x, width, 1)), n.conv(n.block(x, width), width)))


def padded(n: Net, x: str, width: int) -> str:
    """A shortcut whose missing channels are zeros, before and after."""
    more = width // 2
    amounts = n.const([0, more, 0, 0, 0, width - more, 0, 0])
    wide = n.channels[x] + width
    return n.relu(n.op("Add", n.op("Pad", x, amounts, channels=wide), n.conv(x, wide)))


def dense(n: Net, x: str, width: int) -> str:
    return n.concat(x, n.conv(n.relu(n.bn(x)), width))


def branches(n: Net, x: str, width: int) -> str:
    pooled = n.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return n.concat(n.block(x, width, 1), n.relu(n.conv(x, 4)), n.conv(pooled, 6))


def depthwise(n: Net, x: str, width: int) -> str:
    return n.relu(n.depthwise(x, 2 if width == 4 else 1))


def grouped(n: Net, x: str, width: int) -> str:
    return n.relu(n.conv(x, width, groups=2 if n.channels[x] % 2 == 0 else 1))


def shuffled(n: Net, x: str, width: int) -> str:
    channels = width // 2 * 2
    x = n.relu(n.conv(x, channels))
    x = n.op("Reshape", x, n.const([0, 2, channels // 2, 8, 8]))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    return str(n.op("Reshape", x, n.const([0, channels, 8, 8]), channels=channels))


def crossed(n: Net, x: str, width: int) -> str:
    """Two grouped convolutions whose groups cross in a channel shuffle (ShuffleNet's unit)."""
    groups = 3 if width % 3 == 0 else 2
    channels = 2 * groups * (width // groups) if width < 8 else groups * (width // groups + 1)
    x = n.relu(n.conv(n.conv(x, channels), channels, 1, groups=groups))
    x = n.op("Reshape", x, n.const([0, groups, channels // groups, 8, 8]))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.const([0, channels, 8, 8]), channels=channels)
    return n.relu(n.conv(n.depthwise(x), channels, 1, groups=groups))


def slopes(n: Net, x: str, width: int) -> str:
    """Two layers of one width that share their slopes."""
    slope = n.positive(width, 1, 1)
    x = n.op("PRelu", n.conv(x, width), slope)
    return str(n.op("PRelu", n.conv(x, width), slope))


def squeeze_excite(n: Net, x: str, width: int) -> str:
    gate = n.relu(n.conv(n.op("GlobalAveragePool", x), width, 1))
    return str(n.op("Mul", x, n.op("Sigmoid", n.conv(gate, n.channels[x], 1))))


def attention(n: Net, x: str, width: int) -> str:
    return str(n.op("Mul", x, n.op("Sigmoid", n.conv(n.relu(n.conv(x, width)), 1))))


def pool(n: Net, x: str, width: int) -> str:
    return str(n.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))


def split(n: Net, x: str, width: int) -> str:
    """Cut unevenly, one part worked on, joined the other way round."""
    first = max(1, n.channels[x] // 3)
    a, b = n.split(x, [first, n.channels[x] - first])
    return n.concat(b, n.relu(n.conv(a, width)))


def sliced(n: Net, x: str, width: int) -> str:
    """The upper channels, added to a convolution of all."""
    keep = max(2, n.channels[x] // 2)
    part = n.slice(x, [-keep], [2**40], [1])
    return n.relu(n.op("Add", n.conv(x, keep), part))


def scaled(n: Net, x: str, width: int) -> str:
    channels = n.channels[x]
    x = n.op("PRelu", x, n.positive(channels, 1, 1))
    return str(n.op("Add", n.op("Mul", x, n.positive(1, channels, 1, 1)), n.random(channels, 1, 1)))


def channels_last(n: Net, x: str, width: int) -> str:
    x = n.op("Transpose", x, perm=[0, 2, 3, 1])
    weight = n.random(n.channels[x], width, fan_in=n.channels[x])
    x = n.op("Add", n.op("MatMul", x, weight), n.random(width))
    return str(n.op("Transpose", n.relu(x), perm=[0, 3, 1, 2], channels=width))


def gathered(n: Net, x: str, width: int) -> str:
    order = n.rng.permutation(n.channels[x])
    return str(n.op("Gather", x, n.const(order), axis=1))


def repeated(n: Net, x: str, width: int) -> str:
    """The same channels three times over."""
    return n.concat(x, n.op("Neg", x), x)


def product(n: Net, x: str, width: int) -> str:
    return str(n.op("Mul", n.conv(x, width), n.op("Sigmoid", n.conv(x, width, 1))))


def shared(n: Net, x: str, width: int) -> str:
    """One weight in two branches, with biases of their own."""
    w = n.random(width, n.channels[x], 3, 3, fan_in=9 * n.channels[x])
    pads = [1, 1, 1, 1]
    a, b = (n.op("Conv", v, w, n.random(width), pads=pads) for v in (x, n.op("Neg", x)))
    n.channels.update({a: width, b: width})
    return n.concat(n.relu(a), n.relu(b))


def transposed(n: Net, x: str, width: int) -> str:
    groups = 2 if n.channels[x] % 2 == 0 else 1
    w = n.random(n.channels[x], width // groups, 3, 3, fan_in=9 * n.channels[x])
    pads = [1, 1, 1, 1]
    return n.relu(
        n.op("ConvTranspose", x, w, n.random(width), group=groups, pads=pads, channels=width)
    )


def folded(n: Net, x: str, width: int) -> str:
    """Pairs of channels side by side on a split axis, and back."""
    channels = n.channels[x]
    parts = 2 if channels % 2 == 0 else 1
    y = n.op("Reshape", x, n.const([0, parts, channels // parts, 8, 8]))
    return str(n.op("Reshape", n.relu(y), n.const([0, channels, 8, 8]), channels=channels))


def staircase(n: Net, x: str, width: int) -> str:
    """Channel i is read once by every step that is longer than i: each is one of a kind."""
    steps = [n.slice(x, [0], [k], [1]) for k in range(1, min(width, n.channels[x]))]
    n.channels.update({step: k for k, step in enumerate(steps, 1)})
    return n.relu(n.conv(n.concat(x, *steps), width))


def gated(n: Net, x: str, width: int) -> str:
    """A map over positions from the mean and the largest channel (CBAM's spatial gate)."""
    seen = [n.op(f"Reduce{kind}", x, axes=[1], channels=1) for kind in ("Mean", "Max")]
    return str(n.op("Mul", x, n.op("Sigmoid", n.conv(n.concat(*seen), 1)), channels=n.channels[x]))


def attended(n: Net, x: str, width: int) -> str:
    """Two heads over positions, added to what they read."""
    channels = n.channels[x]
    rows = n.op("Transpose", n.op("Reshape", x, n.const([0, channels, 64])), perm=[0, 2, 1])
    q, k, v = (
        n.op("Transpose", n.op("Reshape", n.op(
            "MatMul", rows, n.random(channels, 2 * width, fan_in=channels)
        ), n.const([0, 64, 2, width])), perm=[0, 2, 1, 3])
        for _ in range(3)
    )  # fmt: skip
    seen = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
    y = n.op("MatMul", n.op("Softmax", seen, axis=3), v)
    y = n.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1, 3]), n.const([0, 64, 2 * width]))
    y = n.op("MatMul", y, n.random(2 * width, channels, fan_in=2 * width))
    y = n.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1]), n.const([0, channels, 8, 8]))
    return str(n.op("Add", x, y, channels=channels))


BLOCKS: list[Block] = [
    conv, conv_bn, residual, projected, padded, dense, branches, depthwise, grouped, shuffled,
    squeeze_excite, attention, pool, split, sliced, scaled, channels_last, gathered, repeated,
    product, shared, transposed, folded, crossed, slopes,
    staircase, gated, attended,
]  # fmt: skip

LAYERS = st.lists(st.tuples(st.sampled_from(BLOCKS), WIDTHS), min_size=1, max_size=6)


def network(layers: list[tuple[Block, int]], opset: int, flat: bool, seed: int) -> onnx.ModelProto:
    n, x = image(opset, seed)
    x = n.conv(x, 8)
    for block, width in layers:
        x = block(n, x, width)
    x = n.block(x, 6)
    if flat:
        small = n.op("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4])
        return n.build(n.gemm(n.op("Flatten", small), 24, 5))
    return n.build(n.head(x))


def check_selection(
    layers: list[tuple[Block, int]], opset: int, flat: bool, seed: int, ratio: float, method: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = network(layers, opset, flat, seed)
        result = cut(model, folder, value=ratio, align=1, method=method, compensate="none")
        twin = independent_twin.compare(
            folder / "in.onnx", folder / "out.onnx", folder / "plan.json"
        )
    assert result.after.macs < result.before.macs
    assert twin.removed > 0
    assert twin.error <= 1e-4


def cut(model: onnx.ModelProto, folder: Path, **options: object) -> PruneResult:
    onnx.save(model, str(folder / "in.onnx"))
    config = PruneConfig(target="ratio", **options)
    return prune(folder / "in.onnx", folder / "out.onnx", config, plan_out=folder / "plan.json")


SELECTIONS = given(
    layers=LAYERS,
    opset=st.sampled_from([13, 17]),
    flat=st.booleans(),
    seed=st.integers(0, 99),
    ratio=st.sampled_from([0.25, 0.5, 0.75]),
    method=st.sampled_from(["scsp", "one-per-cluster", "l2", "random"]),
)


@NETWORKS
@SELECTIONS
def test_a_selection_equals_the_independent_twin(**drawn: Any) -> None:
    check_selection(**drawn)


@pytest.mark.slow
@LONG
@SELECTIONS
def test_five_hundred_networks_equal_their_independent_twins(**drawn: Any) -> None:
    check_selection(**drawn)


@NETWORKS
@given(
    layers=LAYERS,
    align=st.sampled_from([1, 2, 4]),
    method=st.sampled_from(["scsp", "one-per-cluster"]),
)
def test_merging_is_verified(layers: list[tuple[Block, int]], align: int, method: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        model = network(layers, 17, False, 0)
        result = cut(model, Path(name), value=0.5, align=align, method=method)
    assert result.report.checks
    assert not result.report.failed


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_block_runs_and_is_cut(block: Block, tmp_path: Path) -> None:
    model = network([(block, 8)], 17, False, 1)
    result = cut(model, tmp_path, value=0.5, align=1, compensate="none")
    files = (tmp_path / name for name in ("in.onnx", "out.onnx", "plan.json"))
    assert result.after.params < result.before.params
    assert independent_twin.compare(*files).error <= 1e-4


def test_equal_seeds_make_equal_networks() -> None:
    first, second = (network([(residual, 8)], 17, True, 3) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
