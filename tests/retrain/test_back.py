"""Trained weights go into the initializers that they came from, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from net_builder import Net, image  # noqa: E402
from nets import NETS  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from onnx_scsp.errors import ModelError  # noqa: E402
from onnx_scsp.graph.load import from_proto, load  # noqa: E402
from onnx_scsp.graph.model import Model  # noqa: E402
from onnx_scsp.graph.save import save  # noqa: E402
from onnx_scsp.retrain.back import torch_divergence, write_back  # noqa: E402
from onnx_scsp.retrain.lift import Lifted, lift  # noqa: E402
from retrain.lift_case import noise  # noqa: E402
from retrain.running import apart, feeds_of, in_torch, runtime  # noqa: E402


def net(opset: int = 17) -> onnx.ModelProto:
    n, x = image(opset)
    return n.build(n.head(n.block(n.block(x, 4), 6)))


def trained(model: Model) -> Lifted:
    """A few steps away from where it was."""
    lifted = lift(model).train()
    optimiser = torch.optim.SGD(lifted.parameters(), lr=0.05)
    for seed in range(3):
        feeds = feeds_of(model, seed, batch=4)
        loss = sum((y.double() ** 2).mean() for y in lifted(*map(torch.from_numpy, feeds.values())))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return lifted.eval()


def without_data(proto: onnx.ModelProto) -> bytes:
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    return bare.SerializeToString()


@pytest.mark.parametrize("name", sorted(set(NETS) - {"if_captures", "squeezed_by_if"})[::4])
def test_the_trained_file_computes_what_the_module_does(name: str) -> None:
    model = from_proto(NETS[name]())
    lifted = trained(model)
    feeds = feeds_of(model, 9)
    assert apart(in_torch(lifted, feeds), runtime(write_back(model, lifted), feeds)) <= 1e-4


def test_training_changes_values_alone() -> None:
    model = from_proto(net())
    back = write_back(model, trained(model))
    assert back.proto.SerializeToString() != model.proto.SerializeToString()
    assert without_data(back.proto) == without_data(model.proto)


def test_a_weight_that_did_not_change_keeps_its_bytes() -> None:
    proto = net()
    for tensor in proto.graph.initializer:  # stored as numbers, not as bytes
        values = numpy_helper.to_array(tensor).reshape(-1)
        if values.dtype == np.float32:
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values.tolist())
    model = from_proto(proto)
    lifted = lift(model)
    name = next(iter(lifted.program.roles.parameters))
    with torch.no_grad():
        lifted.constants[name].add_(1.0)
    back = write_back(model, lifted)
    before = {t.name: t.SerializeToString() for t in proto.graph.initializer}
    after = {t.name: t.SerializeToString() for t in back.proto.graph.initializer}
    assert {key for key in before if before[key] != after[key]} == {name}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_keep_their_type(dtype: type) -> None:
    n = Net()
    w = n.const(noise(4, 3), "w", dtype)
    x = n.input("N", 4)
    n.inputs[0].type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = from_proto(n.build(n.op("MatMul", x, w)))
    lifted = lift(model)
    with torch.no_grad():
        lifted.constants["w"].mul_(0.5)
    lifted.float()  # a trainer may work in single precision
    stored = numpy_helper.to_array(write_back(model, lifted).proto.graph.initializer[0])
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, (noise(4, 3).astype(dtype) * dtype(0.5)))


def test_weights_of_constant_nodes_go_back_into_them() -> None:
    n = Net()
    x = n.input("N", 4)
    value = numpy_helper.from_array(noise(4, 3))
    model = from_proto(n.build(n.op("MatMul", x, n.op("Constant", value=value))))
    lifted = lift(model)
    with torch.no_grad():
        next(lifted.parameters()).mul_(2.0)
    node = write_back(model, lifted).proto.graph.node[0]
    np.testing.assert_array_equal(numpy_helper.to_array(node.attribute[0].t), noise(4, 3) * 2)


def test_empty_constants_come_back() -> None:
    n, x = image()
    empty = n.const(np.zeros(0, np.float32))
    y = n.op("Resize", n.conv(x, 4), empty, n.const([1.0, 1.0, 2.0, 2.0]))
    model = from_proto(n.build(n.op("Reshape", y, n.const([0, -1], dtype=np.int64))))
    assert write_back(model, lift(model)) is model


def test_external_data_stays_external(tmp_path: Path) -> None:
    proto = net()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin",
              size_threshold=0)  # fmt: skip
    model = load(tmp_path / "m.onnx")
    lifted = trained(model)
    back = write_back(model, lifted)
    save(back.proto, model, tmp_path / "out.onnx")
    feeds = feeds_of(model)
    again = load(tmp_path / "out.onnx")
    assert again.external_files
    assert torch_divergence(again, lifted, feeds) <= 1e-5


def test_running_statistics_that_came_apart_are_written_apart() -> None:
    n = Net()
    x = n.input("N", 4, 8, 8)
    zero, one = n.const(np.zeros(4), "zero"), n.const(np.ones(4), "one")
    for shift in (1.0, 4.0):
        moments = (n.op("Identity", zero), n.op("Identity", one))
        x = n.op("BatchNormalization", n.op("Add", x, n.const(shift)), one, zero, *moments)
    model = from_proto(n.build(x))
    lifted = trained(model)
    feeds = feeds_of(model)
    back = write_back(model, lifted)
    assert torch_divergence(back, lifted, feeds) <= 1e-5
    assert torch_divergence(model, lifted, feeds) > 1e-2


def test_a_module_of_another_model_is_refused() -> None:
    n, x = image()
    other = from_proto(n.build(n.head(n.block(x, 4))))
    with pytest.raises(ModelError, match="tensor '"):
        write_back(other, lift(from_proto(net())))


def test_weights_that_are_not_finite_are_refused() -> None:
    model = from_proto(net())
    lifted = lift(model)
    with torch.no_grad():
        next(lifted.parameters()).mul_(float("nan"))
    with pytest.raises(ModelError, match="no longer finite"):
        write_back(model, lifted)


def test_the_divergence_notices_another_weight() -> None:
    model = from_proto(net())
    lifted, feeds = lift(model), feeds_of(model)
    assert torch_divergence(model, lifted, feeds) <= 1e-5
    with torch.no_grad():
        next(lifted.parameters()).add_(0.1)
    assert torch_divergence(model, lifted, feeds) > 1e-3
