"""A working copy: what is written is what the runtime computes with, and only that changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from net_builder import image
from onnx import numpy_helper

from observe.kinds import ALL, VIEWS
from observe.single import Single, coupling_of, sampled, single
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.observe.landing import landing
from onnx_scsp.observe.layers import linear_layers
from onnx_scsp.observe.rows import inputs_seen, outputs_at
from onnx_scsp.observe.weights import WorkingCopy

EVERY = ALL | VIEWS


def difference(one: Single, *, written: bool = True) -> float:
    """Writes a new matrix and bias, and compares the runtime with rows x matrix + bias."""
    layer, copy = one.layer, one.copy
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal(copy.matrix(layer).shape)
    bias = rng.standard_normal(layer.outputs) if layer.bias else np.zeros(layer.outputs)
    if written:
        copy.set_matrix(layer, matrix)
    if layer.bias:
        copy.set_bias(layer, bias)
    end = layer.y
    if layer.bias_outside:
        end = one.coupling.walk.graph.consumers[layer.y][0].outputs[0]
    copy.proto.graph.output.append(onnx.ValueInfoProto(name=end))
    with open_variant(copy.proto, one.coupling.model) as session:
        (name,) = one.coupling.walk.graph.inputs
        made = run_session(session, {name: one.x}, [end])[end]
    sample = sampled(one, 9)
    rows = inputs_seen(layer, one.x, sample, np.ones(layer.inputs, bool))
    found = np.concatenate([part @ matrix[g] for g, part in enumerate(rows)], axis=2) + bias
    return float(np.abs(found - outputs_at(layer, made, sample)).max() / np.abs(found).max())


@pytest.mark.parametrize("name", EVERY)
def test_the_runtime_computes_with_what_was_written_to(name: str) -> None:
    build, shape = EVERY[name]
    assert difference(single(build, *shape)) < 1e-5


@pytest.mark.parametrize("name", ["Conv grouped", "Gemm transB", "Transpose"])
def test_the_comparison_notices_what_was_not_written_to(name: str) -> None:
    build, shape = EVERY[name]
    assert difference(single(build, *shape), written=False) > 0.1


@pytest.mark.parametrize("name", EVERY)
def test_what_was_written_is_read_back(name: str) -> None:
    build, shape = EVERY[name]
    one = single(build, *shape)
    copy, layer = one.copy, one.layer
    matrix = copy.matrix(layer) + 1.0
    copy.set_matrix(layer, matrix)
    np.testing.assert_allclose(copy.matrix(layer), matrix, rtol=1e-5)
    # not so in a second copy
    np.testing.assert_allclose(one.copy.matrix(layer), matrix - 1.0, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"Gemm alpha"}))  # dividing rounds
def test_writing_what_is_there_changes_no_bit(name: str) -> None:
    build, shape = EVERY[name]
    one = single(build, *shape)
    copy = one.copy
    copy.set_matrix(one.layer, copy.matrix(one.layer))
    if one.layer.bias:
        copy.set_bias(one.layer, copy.bias(one.layer))
    before = one.coupling.model.proto.graph
    assert copy.changed
    for old, new in zip(before.initializer, copy.proto.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))
    assert list(before.node) == list(copy.proto.graph.node)


def test_a_bias_in_the_mean_of_a_normalisation_shifts_its_input() -> None:
    """normalisation = scale (rows x matrix + bias) + offset."""
    one = single(lambda n, x: n.bn(n.conv(x, 5, bias=False)), 2, 4, 6, 5)
    layer, copy = one.layer, one.copy
    assert layer.bias_sign == -1.0
    shift = np.arange(5.0)
    copy.set_bias(layer, shift)
    np.testing.assert_array_equal(copy.bias(layer), shift)
    graph, constants = one.coupling.walk.graph, one.coupling.walk.constants
    assert layer.norm is not None
    out = layer.norm.outputs[0]
    copy.proto.graph.output.append(onnx.ValueInfoProto(name=out))
    with open_variant(copy.proto, one.coupling.model) as session:
        made = run_session(session, {graph.inputs[0]: one.x}, [out])[out]
    sample = sampled(one, 9)
    rows = inputs_seen(layer, one.x, sample, np.ones(layer.inputs, bool))
    scale, offset = landing(graph, constants, layer).scale, constants.array(layer.norm.inputs[2])
    found = scale * (rows[0] @ copy.matrix(layer)[0] + shift) + offset
    np.testing.assert_allclose(found, outputs_at(layer, made, sample), atol=1e-4)


def test_a_constant_node_can_be_written() -> None:
    n, x = image()
    proto = n.build(n.conv(x, 4))
    stored = [tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4]
    node = onnx.helper.make_node("Constant", [], [stored[0].name], value=stored[0])
    proto.graph.node.insert(0, node)
    proto.graph.initializer.remove(stored[0])
    coupling = coupling_of(proto)
    (layer,) = linear_layers(coupling)
    copy = WorkingCopy(coupling.model, coupling.walk.constants)
    copy.set_matrix(layer, np.zeros_like(copy.matrix(layer)))
    value = copy.proto.graph.node[0].attribute[0].t
    assert (numpy_helper.to_array(value) == 0).all()
    assert list(copy.changed) == [layer.weight]


def test_the_type_of_a_constant_stays() -> None:
    n, x = image()
    n.conv(x, 4)
    n.weights = {name: array.astype(np.float16) for name, array in n.weights.items()}
    n.inputs[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    coupling = coupling_of(n.build(n.nodes[-1].output[0]))
    (layer,) = linear_layers(coupling)
    copy = WorkingCopy(coupling.model, coupling.walk.constants)
    copy.set_matrix(layer, copy.matrix(layer) * 1.0001)
    copy.set_bias(layer, np.full(4, 1 / 3))
    assert {array.dtype for array in copy.changed.values()} == {np.dtype(np.float16)}
    kinds = {tensor.data_type for tensor in copy.proto.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_the_model_itself_is_never_written_to() -> None:
    build, shape = ALL["Conv 2-D"]
    one = single(build, *shape)
    before = one.coupling.model.proto.SerializeToString()
    copy = one.copy
    copy.set_matrix(one.layer, copy.matrix(one.layer) * 2)
    copy.set_bias(one.layer, copy.bias(one.layer) + 1)
    assert one.coupling.model.proto.SerializeToString() == before != copy.proto.SerializeToString()
