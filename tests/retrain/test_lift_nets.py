"""Whole networks: the same function at any batch size, gradients everywhere, the same file back."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from nets import NETS  # noqa: E402

from onnx_scsp.graph.load import from_proto  # noqa: E402
from onnx_scsp.retrain.back import write_back  # noqa: E402
from onnx_scsp.retrain.lift import lift, missing_operators  # noqa: E402
from retrain.running import apart, feeds_of, in_torch, runtime  # noqa: E402

UNSUPPORTED = {
    name: missing for name, build in NETS.items()
    if (missing := missing_operators(from_proto(build())))
}  # fmt: skip
LIFTED = sorted(set(NETS) - set(UNSUPPORTED))


def test_nearly_all_networks_lift() -> None:
    assert len(LIFTED) >= 0.9 * len(NETS), UNSUPPORTED


@pytest.mark.parametrize("name", LIFTED)
def test_the_function_is_that_of_onnxruntime(name: str) -> None:
    model = from_proto(NETS[name]())
    feeds = feeds_of(model)
    assert apart(in_torch(lift(model), feeds), runtime(model, feeds)) <= 1e-4


@pytest.mark.parametrize("name", LIFTED)
def test_three_samples_at_once_where_the_file_allows_it(name: str) -> None:
    model = from_proto(NETS[name]())
    lifted = lift(model)
    feeds = feeds_of(model, batch=3)
    assert lifted.batch.free, lifted.batch.reason
    assert apart(in_torch(lifted, feeds), runtime(model, feeds)) <= 1e-4


@pytest.mark.parametrize("name", LIFTED)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = from_proto(NETS[name]())
    lifted = lift(model)
    feeds = [torch.from_numpy(array) for array in feeds_of(model).values()]
    sum((each.double() ** 2).sum() for each in lifted(*feeds)).backward()
    without = [key for key, weight in lifted.named_parameters() if weight.grad is None]
    assert without == []


@pytest.mark.parametrize("name", LIFTED)
def test_everything_follows_the_module_to_another_device(name: str) -> None:
    model = from_proto(NETS[name]())
    lifted, feeds = lift(model), feeds_of(model)
    here = lifted(*map(torch.from_numpy, feeds.values()))
    there = lifted.to("meta")(*(torch.from_numpy(array).to("meta") for array in feeds.values()))
    assert [(y.device.type, y.shape) for y in there] == [("meta", y.shape) for y in here]


@pytest.mark.parametrize("name", LIFTED)
def test_an_untrained_model_comes_back_as_it_was(name: str) -> None:
    model = from_proto(NETS[name]())
    lifted = lift(model)
    assert write_back(model, lifted).proto.SerializeToString() == model.proto.SerializeToString()
