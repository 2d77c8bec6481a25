"""A batch size that the file bakes into its shape constants is freed, or the node is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from net_builder import Net  # noqa: E402

from onnx_scsp.errors import ModelError  # noqa: E402
from onnx_scsp.graph.load import from_proto  # noqa: E402
from onnx_scsp.graph.model import Model  # noqa: E402
from onnx_scsp.retrain.lift import lift  # noqa: E402
from retrain.running import apart, feeds_of, in_torch, joined, one_by_one  # noqa: E402

BAKED: dict[str, Callable[[int], onnx.ModelProto]] = {}


def baked(build: Callable[[int], onnx.ModelProto]) -> Callable[[int], onnx.ModelProto]:
    BAKED[build.__name__] = build
    return build


def start(batch: int) -> tuple[Net, str]:
    n = Net()
    x = n.input(batch, 6, 3, 3)
    return n, n.conv(x, 8)


@baked
def channel_shuffle(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    y = n.op("Reshape", y, n.const([batch, 2, 4, 3, 3]))
    y = n.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return n.build(n.op("Reshape", y, n.const([batch, 8, 3, 3])))


@baked
def flatten_to_one_row(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    y = n.op("Reshape", y, n.const([batch, -1]))
    return n.build(n.op("MatMul", y, n.random(72, 4)))


@baked
def time_and_batch_on_one_axis(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    y = n.op("Reshape", y, n.const([batch, 8, 9]))
    y = n.op("Transpose", y, perm=[2, 0, 1])
    y = n.op("Reshape", y, n.const([9 * batch, 8]))
    y = n.op("Reshape", n.op("MatMul", y, n.random(8, 4)), n.const([9, batch, 4]))
    return n.build(n.op("Transpose", y, perm=[1, 0, 2]))


@baked
def windows_on_the_batch_axis(batch: int) -> onnx.ModelProto:
    n = Net()
    y = n.conv(n.input(batch, 6, 4, 4), 8)
    y = n.op("Reshape", y, n.const([batch, 8, 2, 2, 2, 2]))
    y = n.op("Transpose", y, perm=[0, 2, 4, 3, 5, 1])
    y = n.op("Reshape", y, n.const([4 * batch, 4, 8]))
    y = n.op("MatMul", y, n.random(8, 8))
    y = n.op("Reshape", y, n.const([batch, 2, 2, 2, 2, 8]))
    return n.build(n.op("Transpose", y, perm=[0, 5, 1, 3, 2, 4]))


@baked
def class_token(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    y = n.op("Transpose", n.op("Reshape", y, n.const([batch, 8, 9])), perm=[0, 2, 1])
    token = n.const(np.tile(n.rng.standard_normal((1, 1, 8)), (batch, 1, 1)))
    return n.build(n.op("MatMul", n.op("Concat", token, y, axis=1), n.random(8, 4)))


@baked
def gate_expanded_to_full_size(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    gate = n.op("Sigmoid", n.op("GlobalAveragePool", y))
    gate = n.op("Expand", gate, n.const([batch, 8, 3, 3]))
    return n.build(n.op("Mul", y, gate))


@baked
def resize_to_sizes(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    empty = n.const(np.zeros(0, np.float32))
    return n.build(n.op("Resize", y, empty, empty, n.const([batch, 8, 6, 6])))


@baked
def slice_over_every_axis(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    return n.build(n.op("Slice", y, n.const([0, 2]), n.const([batch, 6]), n.const([0, 1])))


@baked
def initial_state(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    y = n.op("Transpose", n.op("Reshape", y, n.const([batch, 8, 9])), perm=[2, 0, 1])
    h = n.const(np.zeros((1, batch, 4), np.float32))
    weights = n.random(1, 16, 8), n.random(1, 16, 4), n.random(1, 32)
    y = n.op("LSTM", y, *weights, "", h, h, outputs=3, hidden_size=4)[0]
    return n.build(n.op("Transpose", n.op("Squeeze", y, n.const([1])), perm=[1, 0, 2]))


@baked
def sizes_computed_in_the_graph(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    rows = n.op("Slice", n.op("Shape", y), n.const([0]), n.const([1]))
    return n.build(n.op("Reshape", y, n.op("Concat", rows, n.const([-1]), axis=0)))


def first_sample_alone(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    return n.build(n.op("Gather", y, n.const(0, dtype=np.int64), axis=0))


def mean_over_the_batch(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    return n.build(n.op("Sub", y, n.op("ReduceMean", y, axes=[0])))


def products_between_samples(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    y = n.op("Reshape", y, n.const([batch, -1]))
    return n.build(n.op("MatMul", y, n.op("Transpose", y, perm=[1, 0])))


def different_rows_per_sample(batch: int) -> onnx.ModelProto:
    n, y = start(batch)
    return n.build(n.op("Concat", y, n.random(batch, 1, 3, 3), axis=1))


def parts(model: Model, count: int) -> list[dict[str, np.ndarray]]:
    return [feeds_of(model, seed) for seed in range(count)]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", BAKED)
def test_a_baked_batch_is_freed(name: str, batch: int) -> None:
    model = from_proto(BAKED[name](batch))
    lifted, feeds = lift(model), parts(model, 3)
    assert lifted.batch.free, lifted.batch.reason
    assert apart(in_torch(lifted, joined(feeds)), one_by_one(model, feeds)) <= 1e-5


@pytest.mark.parametrize("name", BAKED)
def test_a_freed_batch_may_be_smaller_than_the_file_says(name: str) -> None:
    model = from_proto(BAKED[name](4))
    lifted = lift(model)
    feeds = feeds_of(model)
    one = {key: array[1:2] for key, array in feeds.items()}
    full = in_torch(lifted, feeds)
    assert apart(in_torch(lifted, one), {k: v[1:2] for k, v in full.items()}) <= 1e-5


@pytest.mark.parametrize(
    ("build", "node"),
    [(first_sample_alone, "Gather"), (mean_over_the_batch, "ReduceMean"),
     (products_between_samples, "MatMul")],
)  # fmt: skip
@pytest.mark.parametrize("batch", [1, 4])
def test_what_cannot_be_freed_names_its_node(
    build: Callable[[int], onnx.ModelProto], node: str, batch: int
) -> None:
    model = from_proto(build(batch))
    lifted = lift(model)
    assert not lifted.batch.free
    assert node in lifted.batch.reason
    with pytest.raises(ModelError, match=f"batch size {batch + 2}.*{node}"):
        lifted(torch.zeros(batch + 2, 6, 3, 3))
    feeds = feeds_of(model)
    assert apart(in_torch(lifted, feeds), one_by_one(model, [feeds])) <= 1e-5


def test_rows_that_differ_between_samples_are_not_repeated() -> None:
    assert not lift(from_proto(different_rows_per_sample(4))).batch.free


def test_without_the_repairs_a_baked_reshape_fails() -> None:
    lifted = lift(from_proto(channel_shuffle(1)))
    assert lifted.batch.repairs
    object.__setattr__(lifted.batch, "repairs", {})
    with pytest.raises(RuntimeError):
        lifted(torch.zeros(3, 6, 3, 3))
