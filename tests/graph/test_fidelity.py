"""After a real prune everything that the plan does not touch is as it was, field by field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_scsp
from graph.conftest import Pair, pruned_pair
from graph.rich import NOT_UTF8, overridable, rich_model
from graph.small import (
    conv_net,
    image,
    initializers,
    one_input,
    run,
    without_data,
    write,
)

TOUCHED = {
    "conv1.w", "bn.scale", "bn.shift", "bn.mean", "bn.var", "conv2.w", "conv2.b", "fc.w",
}  # fmt: skip
CUT_VALUES = {"conv1", "conv2"}
MODEL_FIELDS = [
    "ir_version", "opset_import", "producer_name", "producer_version", "domain", "model_version",
    "doc_string", "metadata_props", "training_info", "functions",
]  # fmt: skip
GRAPH_FIELDS = [
    "name", "doc_string", "metadata_props", "quantization_annotation", "sparse_initializer",
    "input", "output",
]  # fmt: skip


def test_the_plan_touches_exactly_the_tensors_that_this_file_calls_touched(rich: Pair) -> None:
    members = {member.tensor for group in rich.result.plan.groups for member in group.members}
    assert members == TOUCHED


def test_the_comparison_covers_every_field_of_the_schema() -> None:
    known = {*MODEL_FIELDS, "graph", "configuration"}
    assert {field.name for field in onnx.ModelProto.DESCRIPTOR.fields} <= known
    known = {*GRAPH_FIELDS, "node", "initializer", "value_info"}
    assert {field.name for field in onnx.GraphProto.DESCRIPTOR.fields} <= known


@pytest.mark.parametrize("field", MODEL_FIELDS)
def test_model_field_is_set_and_survives(field: str, rich: Pair) -> None:
    assert getattr(rich.before, field)
    assert getattr(rich.after, field) == getattr(rich.before, field)


@pytest.mark.parametrize("field", GRAPH_FIELDS)
def test_graph_field_is_set_and_survives(field: str, rich: Pair) -> None:
    assert getattr(rich.before.graph, field)
    assert getattr(rich.after.graph, field) == getattr(rich.before.graph, field)


def test_nodes_without_channel_numbers_are_unchanged_and_in_order(rich: Pair) -> None:
    assert [node.name for node in rich.after.graph.node] == [n.name for n in rich.before.graph.node]
    changed = [
        old.name
        for old, new in zip(rich.before.graph.node, rich.after.graph.node, strict=True)
        if old.SerializeToString() != new.SerializeToString()
    ]
    assert changed == []


@pytest.mark.parametrize("op_type", ["If", "Loop"])
def test_subgraphs_survive_bit_for_bit(op_type: str, rich: Pair) -> None:
    before, after = (
        [node for node in proto.graph.node if node.op_type == op_type]
        for proto in (rich.before, rich.after)
    )
    assert [node.attribute for node in after] == [node.attribute for node in before]


def test_initializers_keep_their_order(rich: Pair) -> None:
    assert list(initializers(rich.after)) == list(initializers(rich.before))


def test_untouched_initializers_are_bit_identical(rich: Pair) -> None:
    before, after = initializers(rich.before), initializers(rich.after)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == TOUCHED


def test_an_untouched_initializer_stays_in_float_data(rich: Pair) -> None:
    stored = initializers(rich.after)["fc.b"]
    assert len(stored.float_data) == 5
    assert not stored.HasField("raw_data")


def test_touched_initializers_change_only_their_shape_and_values(rich: Pair) -> None:
    before, after = initializers(rich.before), initializers(rich.after)
    changed = [name for name in TOUCHED if without_data(before[name]) != without_data(after[name])]
    assert changed == []


def test_a_touched_bias_holds_exactly_the_kept_entries(rich: Pair) -> None:
    plan = rich.result.plan
    keep = list(next(cut.keep for cut in plan.cuts if cut.group == plan.groups[1].id))
    old, new = (
        numpy_helper.to_array(initializers(p)["conv2.b"]) for p in (rich.before, rich.after)
    )
    assert np.array_equal(new, old[keep])


def test_an_initializer_that_nothing_reads_is_kept(rich: Pair) -> None:
    assert "fc.spare" in initializers(rich.after)


def test_value_infos_of_untouched_values_survive(rich: Pair) -> None:
    before = [info for info in rich.before.graph.value_info if info.name not in CUT_VALUES]
    after = [info for info in rich.after.graph.value_info if info.name not in CUT_VALUES]
    assert after == before


@pytest.mark.parametrize("name", sorted(CUT_VALUES))
def test_value_info_of_a_cut_value_changes_only_the_channel_count(name: str, rich: Pair) -> None:
    before, after = (
        next(info for info in proto.graph.value_info if info.name == name)
        for proto in (rich.before, rich.after)
    )
    channels = rich.result.layers[name]
    assert before.type.tensor_type.shape.dim[1].dim_value == channels[0]
    assert after.type.tensor_type.shape.dim[1].dim_value == channels[1]
    after.type.tensor_type.shape.dim[1].dim_value = channels[0]
    assert after == before


def test_the_untouched_side_of_the_network_computes_what_it_did(rich: Pair) -> None:
    before, after = (run(path, image()) for path in (rich.source, rich.output))
    assert np.array_equal(before["side"], after["side"])


def test_a_sequence_that_the_main_graph_reads_survives(tmp_path: Path) -> None:
    pair = pruned_pair(tmp_path, rich_model(reads_sequence=True))
    assert pair.after.graph.node == pair.before.graph.node


def test_a_custom_node_keeps_attributes_of_every_type(odd: Pair) -> None:
    before, after = (proto.graph.node[-1] for proto in (odd.before, odd.after))
    assert after.op_type == "Strange"
    assert after == before


def test_bytes_that_are_no_text_survive_in_attributes(odd: Pair) -> None:
    found = {attribute.name: attribute for attribute in odd.after.graph.node[-1].attribute}
    assert found["bytes"].s == NOT_UTF8
    assert list(found["strings"].strings) == [b"ok", NOT_UTF8]


def test_the_channels_beside_a_custom_operator_are_pruned(odd: Pair) -> None:
    assert odd.result.layers["conv1"] == (8, 4)


def test_listed_initializers_stay_listed_as_inputs(listed: Pair) -> None:
    before, after = ([i.name for i in p.graph.input] for p in (listed.before, listed.after))
    assert after == before


def test_declared_shapes_of_listed_initializers_follow_the_cut(listed: Pair) -> None:
    stored = initializers(listed.after)
    declared = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in listed.after.graph.input
        if info.name in stored
    }
    assert declared == {name: list(stored[name].dims) for name in declared}


def test_doc_strings_of_listed_initializers_survive(listed: Pair) -> None:
    docs = {info.name: info.doc_string for info in listed.before.graph.input}
    assert {info.name: info.doc_string for info in listed.after.graph.input} == docs


def test_an_untouched_listed_initializer_can_still_be_overridden(tmp_path: Path) -> None:
    pair = pruned_pair(tmp_path, overridable(ir_version=8))
    zeros = np.zeros(5, np.float32)
    plain = run(pair.output, image())["logits"]
    moved = run(pair.output, image() | {"fc.b": zeros})["logits"]
    bias = numpy_helper.to_array(initializers(pair.after)["fc.b"])
    assert np.allclose(plain - bias, moved, atol=1e-5)


def test_weights_in_float_data_are_cut_as_raw_ones_are(tmp_path: Path) -> None:
    typed = conv_net()
    for item in typed.graph.initializer:
        item.float_data.extend(numpy_helper.to_array(item).reshape(-1).tolist())
        item.ClearField("raw_data")
    outputs = []
    for name, proto in (("raw", conv_net()), ("typed", typed)):
        folder = tmp_path / name
        folder.mkdir()
        outputs.append(run(pruned_pair(folder, proto).output, image())["logits"])
    assert np.array_equal(*outputs)


def test_external_data_inside_training_graphs_moves_with_the_model(tmp_path: Path) -> None:
    proto = rich_model()
    item = proto.training_info[0].algorithm.initializer[0]
    (tmp_path / "train.bin").write_bytes(item.raw_data)
    item.ClearField("raw_data")
    item.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "train.bin"), ("offset", "0"), ("length", "4")):
        item.external_data.add(key=key, value=value)
    pair = pruned_pair(tmp_path, proto)
    moved = pair.after.training_info[0].algorithm.initializer[0]
    location = {entry.key: entry.value for entry in moved.external_data}["location"]
    assert location != "train.bin"
    assert (tmp_path / location).read_bytes() == np.ones(1, np.float32).tobytes()


def test_the_same_command_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write(rich_model(), tmp_path / "in.onnx")
    for name in ("a.onnx", "b.onnx"):
        onnx_scsp.prune(source, tmp_path / name, plan_out=tmp_path / f"{name}.json")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.onnx.json").read_bytes() == (tmp_path / "b.onnx.json").read_bytes()


def test_the_input_file_is_not_changed(rich: Pair) -> None:
    assert rich.source.read_bytes() == rich.before.SerializeToString()


def test_a_shared_bias_is_copied_under_a_name_that_is_still_free(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a.w": rng.standard_normal((8, 3, 1, 1)),
        "b.w": rng.standard_normal((8, 8, 1, 1)),
        "c.w": rng.standard_normal((2, 8, 1, 1)),
        "bias": rng.standard_normal(8),
        "bias_pruned": np.zeros(2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a.w", "bias"], ["a"], "a"),
        helper.make_node("Relu", ["a"], ["a.relu"], "a.relu"),
        helper.make_node("Conv", ["a.relu", "b.w", "bias"], ["b"], "b"),
        helper.make_node("Relu", ["b"], ["b.relu"], "b.relu"),
        helper.make_node("Conv", ["b.relu", "c.w", "bias_pruned"], ["y"], "c"),
    ]
    proto = one_input(nodes, {name: array.astype("f4") for name, array in arrays.items()})
    pair = pruned_pair(tmp_path, proto)
    names = [item.name for item in pair.after.graph.initializer]
    assert pair.result.layers["b"] == (8, 4)
    assert len(set(names)) == len(names) == 6
