"""After a cut, everything that spells a channel number spells the new one."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from more_nets import image
from net_builder import Net
from nets import NETS
from onnx import helper, numpy_helper

from onnx_scsp.config import PruneConfig
from onnx_scsp.graph.load import load
from onnx_scsp.pipeline import make_plan, prune


def cut(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, str(folder / "in.onnx"))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    prune(folder / "in.onnx", folder / "out.onnx", config)
    return onnx.load(str(folder / "out.onnx"))


def node_of(model: onnx.ModelProto, op_type: str, place: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == op_type][place]


def attribute(model: onnx.ModelProto, op_type: str, name: str, place: int = 0) -> Any:
    for entry in node_of(model, op_type, place).attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return None


def operand(model: onnx.ModelProto, op_type: str, index: int, place: int = 0) -> list[int]:
    name = node_of(model, op_type, place).input[index]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(tensor).tolist()


def weight_shape(model: onnx.ModelProto, place: int) -> list[int]:
    name = node_of(model, "Conv", place).input[1]
    return next(list(t.dims) for t in model.graph.initializer if t.name == name)


def test_depthwise_convolution_gets_as_many_groups_as_channels(tmp_path: Path) -> None:
    model = cut(NETS["depthwise_separable"](), tmp_path)
    assert attribute(model, "Conv", "group", 1) == 4


def test_depthwise_multiplier_keeps_its_multiplier(tmp_path: Path) -> None:
    model = cut(NETS["depthwise_multiplier2"](), tmp_path)
    assert attribute(model, "Conv", "group", 1) == 4
    assert weight_shape(model, 1) == [8, 1, 3, 3]


def test_grouped_convolution_keeps_its_number_of_groups(tmp_path: Path) -> None:
    model = cut(NETS["grouped"](), tmp_path)
    assert attribute(model, "Conv", "group", 1) == 4


@pytest.mark.parametrize("opset", [9, 11])
def test_split_sizes_in_an_attribute_are_rewritten(opset: int, tmp_path: Path) -> None:
    model = cut(NETS[f"uneven_concat_split_opset{opset}"](), tmp_path)
    assert attribute(model, "Split", "split") == [4, 8]


@pytest.mark.parametrize("name", ["uneven_concat_split", "uneven_concat_split_opset13"])
def test_split_sizes_in_an_input_are_rewritten(name: str, tmp_path: Path) -> None:
    model = cut(NETS[name](), tmp_path)
    assert operand(model, "Split", 1) == [4, 8]


def test_a_split_into_equal_parts_that_stay_equal_is_untouched(tmp_path: Path) -> None:
    model = cut(NETS["split_num_outputs_opset18"](), tmp_path)
    assert attribute(model, "Split", "num_outputs") == 2
    assert len(node_of(model, "Split").input) == 1


def test_a_split_into_equal_parts_that_become_unequal_spells_its_sizes(tmp_path: Path) -> None:
    n, x = image(18)
    a, b = n.op("Split", n.block(x, 16), outputs=2, axis=1, num_outputs=2, channels=8)
    model = n.build(n.head(n.concat(b, n.block(a, 8), a)))
    after = keep_channels(model, "Conv0", [0, 1, 2, 3, 4, 15], tmp_path)
    assert attribute(after, "Split", "num_outputs") is None
    assert operand(after, "Split", 1) == [5, 1]


def test_slice_bounds_in_attributes_are_rewritten(tmp_path: Path) -> None:
    model = cut(NETS["slice_channels_opset9"](), tmp_path)
    assert attribute(model, "Slice", "starts") == [2]
    assert attribute(model, "Slice", "ends") == [8]


def test_slice_bounds_in_inputs_are_rewritten(tmp_path: Path) -> None:
    model = cut(NETS["slice_channels"](), tmp_path)
    width = [
        operand(model, "Slice", 1, 0) + operand(model, "Slice", 2, 0),
        operand(model, "Slice", 1, 1),
    ]
    assert width[0][0] == 0
    assert width[0][1] == width[1][0]
    assert 0 < width[0][1] < 6


@pytest.mark.parametrize("name", ["padded_shortcut_constant", "padded_shortcut_opset9"])
def test_pad_amounts_become_what_stays_on_either_side(name: str, tmp_path: Path) -> None:
    model = cut(NETS[name](), tmp_path)
    pads = attribute(model, "Pad", "pads") or operand(model, "Pad", 1)
    assert weight_shape(model, 0)[0] + pads[1] + pads[5] == weight_shape(model, 2)[0]
    assert [pads[i] for i in (0, 2, 3, 4, 6, 7)] == [0] * 6


def test_pad_amounts_that_the_graph_computes_wrongly_become_constants(tmp_path: Path) -> None:
    """(new width - old width) / 2 on each side no longer says which slots stay."""
    n, x = image()
    x = n.block(x, 8)
    y = n.bn(n.conv(x, 16))
    index, axes = n.const(1, dtype=np.int64), n.const([0])
    have, want = (n.op("Gather", n.op("Shape", v), index, axis=0) for v in (x, y))
    half = n.op("Unsqueeze", n.op("Div", n.op("Sub", want, have), n.const(2)), axes)
    zero = n.const([0])
    pads = n.op("Concat", zero, half, zero, zero, zero, half, zero, zero, axis=0)
    y = n.relu(n.op("Add", y, n.op("Pad", x, pads)))
    model = n.build(n.head(y), output_shape=["N", 5])
    after = keep_channels(model, "Conv3", [4, 5, 6, 7, 12, 13, 14, 15], tmp_path)
    assert operand(after, "Pad", 1) == [0, 0, 0, 0, 0, 4, 0, 0]


def keep_channels(
    model: onnx.ModelProto, layer: str, channels: list[int], folder: Path
) -> onnx.ModelProto:
    """Prunes by a plan that keeps the given filters of one convolution."""
    onnx.save(model, str(folder / "in.onnx"))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    plan = make_plan(load(folder / "in.onnx"), config)
    group = next(group for group in plan.groups if layer in group.layers)
    weight = next(node for node in model.graph.node if node.name == layer).input[1]
    units = next(m.units for m in group.members if (m.tensor, m.axis) == (weight, 0))
    keep = tuple(sorted(int(units[channel]) for channel in channels))
    cuts = [
        dataclasses.replace(cut, keep=keep) if cut.group == group.id else cut for cut in plan.cuts
    ]
    changed = dataclasses.replace(plan, cuts=tuple(cuts))
    prune(folder / "in.onnx", folder / "out.onnx", plan=changed)
    return onnx.load(str(folder / "out.onnx"))


def test_reshape_constants_are_rewritten(tmp_path: Path) -> None:
    model = cut(NETS["reshape_constant"](), tmp_path)
    assert [operand(model, "Reshape", 1, place) for place in range(3)] == [
        [2, 6, 64],
        [2, 6, 8, 8],
        [2, 6],
    ]


def test_a_reshape_without_channel_numbers_is_untouched(tmp_path: Path) -> None:
    before = NETS["matmul_add_head"]()
    after = cut(before, tmp_path)
    assert node_of(after, "Reshape") == node_of(before, "Reshape")
    assert operand(after, "Reshape", 1) == [0, -1]


def test_channel_numbers_beside_a_dynamic_batch_are_masked_in(tmp_path: Path) -> None:
    model = cut(NETS["reshape_dynamic_batch"](), tmp_path)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (scores,) = session.run(None, {"x": np.zeros((batch, 3, 8, 8), np.float32)})
        assert scores.shape == (batch, 5)


def test_resize_sizes_are_rewritten(tmp_path: Path) -> None:
    model = cut(NETS["resize_sizes"](), tmp_path)
    assert operand(model, "Resize", 3) == [1, 6, 16, 16]


def test_resize_sizes_that_follow_the_shape_are_untouched(tmp_path: Path) -> None:
    before = NETS["resize_computed_sizes"]()
    after = cut(before, tmp_path)
    assert node_of(after, "Resize") == node_of(before, "Resize")


def test_expand_constants_are_rewritten(tmp_path: Path) -> None:
    model = cut(NETS["expand_gate"](), tmp_path)
    assert operand(model, "Expand", 1) == [1, 6, 8, 8]


def test_an_expand_that_spells_one_for_channels_is_untouched(tmp_path: Path) -> None:
    n = Net()
    x = n.op("GlobalAveragePool", n.block(n.input(1, 3, 8, 8), 12))
    x = n.op("Expand", x, n.const([1, 1, 8, 8]))
    model = cut(n.build(n.head(n.block(x, 8))), tmp_path)
    assert operand(model, "Expand", 1) == [1, 1, 8, 8]


def test_gather_indices_are_renumbered(tmp_path: Path) -> None:
    n, x = image()
    order = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]
    x = n.op("Gather", n.block(x, 12), n.const(order), axis=1)
    model = cut(n.build(n.head(n.block(x, 8))), tmp_path)
    indices = operand(model, "Gather", 1)
    assert sorted(indices) == list(range(6))
    turns = [a - b for a, b in pairwise(indices)]
    assert all(turn == 1 or turn < 0 for turn in turns)


def test_declared_inner_shapes_follow_the_cut(tmp_path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(NETS["plain_bn"]())
    after = cut(model, tmp_path)
    widths = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in after.graph.value_info
        if value.name.startswith(("conv", "relu"))
    }
    assert widths == {"conv0": 4, "relu2": 4, "conv3": 8, "relu5": 8}


def test_what_the_cut_does_not_touch_is_copied_bit_for_bit(tmp_path: Path) -> None:
    before = NETS["channel_softmax"]()
    after = cut(before, tmp_path)
    old = {tensor.name: tensor for tensor in before.graph.initializer}
    same = [t.name for t in after.graph.initializer if t == old[t.name]]
    assert [tensor.name for tensor in after.graph.initializer] == list(old)
    assert {"c6"} <= set(same)  # the bias of the convolution in front of Softmax
    assert list(after.graph.node) == list(before.graph.node)
