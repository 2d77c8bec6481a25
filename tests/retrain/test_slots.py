"""Batch normalisation behind folded convolutions: the same function before and after."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from net_builder import Net, image  # noqa: E402

from onnx_scsp.errors import ModelError  # noqa: E402
from onnx_scsp.graph.load import from_proto  # noqa: E402
from onnx_scsp.graph.model import Model  # noqa: E402
from onnx_scsp.retrain.back import write_back  # noqa: E402
from onnx_scsp.retrain.lift import lift  # noqa: E402
from onnx_scsp.retrain.slots import Slotted, fold, restore_batch_norm  # noqa: E402
from retrain.running import apart, feeds_of, runtime  # noqa: E402


def plain() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.conv(x, 8, bias=False))
    return n.build(n.head(n.relu(n.conv(x, 12))))


def depthwise() -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.depthwise(n.conv(x, 8)))
    return n.build(n.head(n.relu(n.conv(x, 12, groups=4))))


def deconvolution() -> onnx.ModelProto:
    n, x = image()
    x = n.conv(x, 8)
    y = n.op("ConvTranspose", x, n.random(8, 3, 2, 2), n.random(6), group=2, strides=[2, 2])
    n.channels[y] = 6
    y = n.op("ConvTranspose", y, n.random(6, 5, 2, 2))
    return n.build(y)


def signal() -> onnx.ModelProto:
    n = Net()
    x = n.input("N", 3, 20)
    return n.build(n.relu(n.conv(x, 8, dims=1)))


def behind_identity() -> onnx.ModelProto:
    n, x = image()
    w, b = n.random(8, n.channels[x], 3, 3), n.random(8)
    y = n.op("Conv", x, n.op("Identity", w), n.op("Identity", b))
    return n.build(n.op("Conv", y, n.random(8, 8, 1, 1), n.op("Identity", b)))


NETS = [plain, depthwise, deconvolution, signal, behind_identity]


def batches(model: Model, count: int = 3) -> list[dict[str, np.ndarray]]:
    return [feeds_of(model, seed, batch=5) for seed in range(count)]


def slotted(build) -> Slotted:
    model = from_proto(build())
    return restore_batch_norm(model, batches(model))


def trained(found: Slotted) -> Model:
    lifted = lift(found.model).train()
    optimiser = torch.optim.SGD(lifted.parameters(), lr=0.05)
    for feeds in batches(found.model):
        loss = sum((y**2).mean() for y in lifted(*map(torch.from_numpy, feeds.values())))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return write_back(found.model, lifted)


@pytest.mark.parametrize("build", NETS)
def test_slots_leave_the_function_as_it_is(build) -> None:
    found = slotted(build)
    convs = [n for n in found.source.proto.graph.node if n.op_type.startswith("Conv")]
    assert len(found.slots) == len(convs)
    feeds = feeds_of(found.source, 9)
    assert apart(runtime(found.model, feeds), runtime(found.source, feeds)) <= 1e-5


@pytest.mark.parametrize("build", NETS)
def test_folding_untrained_slots_gives_the_same_file(build) -> None:
    found = slotted(build)
    assert fold(found, found.model).proto.SerializeToString() == (
        found.source.proto.SerializeToString()
    )


@pytest.mark.parametrize("build", NETS)
def test_folding_trained_slots_keeps_the_trained_function(build) -> None:
    found = slotted(build)
    after = trained(found)
    folded = fold(found, after)
    feeds = feeds_of(found.source, 9)
    assert apart(runtime(folded, feeds), runtime(after, feeds)) <= 1e-5
    assert apart(runtime(folded, feeds), runtime(found.source, feeds)) > 1e-3


def test_a_conv_without_bias_is_given_one_by_training_alone() -> None:
    found = slotted(plain)
    before = found.source.proto.graph.node[0]
    after = fold(found, trained(found)).proto.graph.node[0]
    assert (len(before.input), len(after.input)) == (2, 3)


def test_a_conv_with_bias_keeps_graph_and_names() -> None:
    found = slotted(depthwise)
    folded = fold(found, trained(found))
    assert [n.SerializeToString() for n in folded.proto.graph.node] == [
        n.SerializeToString() for n in found.source.proto.graph.node
    ]
    assert [t.name for t in folded.proto.graph.initializer] == [
        t.name for t in found.source.proto.graph.initializer
    ]


def test_the_running_statistics_are_those_of_the_samples() -> None:
    model = from_proto(plain())
    samples = batches(model)
    found = restore_batch_norm(model, iter(samples))
    probe = onnx.ModelProto()
    probe.CopyFrom(model.proto)
    probe.graph.output.append(onnx.ValueInfoProto(name=found.slots[0].output))
    joined = np.concatenate(
        [runtime(from_proto(probe), feeds)[found.slots[0].output] for feeds in samples]
    )
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in found.model.proto.graph.initializer}
    np.testing.assert_allclose(stored[found.slots[0].mean], joined.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(stored[found.slots[0].variance], joined.var((0, 2, 3)), rtol=1e-4)


def test_a_conv_with_a_norm_behind_it_gets_no_second_one() -> None:
    n, x = image()
    model = from_proto(n.build(n.head(n.block(x, 8))))
    found = restore_batch_norm(model, batches(model))
    assert found.slots == ()
    assert "follows already" in next(iter(found.skipped.values()))


def test_a_shared_weight_gets_no_slot() -> None:
    n = Net()
    x = n.input("N", 4, 6, 6)
    w = n.random(4, 4, 1, 1)
    model = from_proto(n.build(n.op("Conv", n.op("Conv", x, w), w)))
    found = restore_batch_norm(model, batches(model))
    assert set(found.skipped.values()) == {"its weight is shared"}


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ModelError, match="at least one batch"):
        restore_batch_norm(from_proto(plain()), [])


def test_folding_another_model_is_an_error() -> None:
    found = slotted(plain)
    with pytest.raises(ModelError, match="not the model with the slots"):
        fold(found, found.source)


def test_a_slot_with_another_scale_is_noticed() -> None:
    found = slotted(plain)
    broken = onnx.ModelProto()
    broken.CopyFrom(found.model.proto)
    for tensor in broken.graph.initializer:
        if tensor.name == found.slots[1].scale:
            doubled = onnx.numpy_helper.to_array(tensor) * np.float32(2)
            tensor.raw_data = doubled.tobytes()
    feeds = feeds_of(found.source, 9)
    assert apart(runtime(from_proto(broken), feeds), runtime(found.source, feeds)) > 1e-2
