"""What there is to know about labels, one lesson after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from more_nets import image
from net_builder import Net
from nets import COUPLED_ONLY, NETS

from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import from_proto, load
from onnx_scsp.types import ChannelGroup, FreezeReason, GroupMap, Member, Role


def groups_of(proto: onnx.ModelProto) -> GroupMap:
    return find_groups(from_proto(proto))


def group_of_layer(found: GroupMap, layer: str) -> ChannelGroup:
    return next(group for group in found.groups if layer in group.layers)


def members_with(group: ChannelGroup, role: Role) -> list[Member]:
    return [member for member in group.members if member.role is role]


# ---- 1. Flatten: channels, rows and columns on one axis -----------------------------------------


def test_after_flatten_every_unit_owns_one_run_of_positions() -> None:
    found = groups_of(NETS["flatten_gemm"]())
    group = group_of_layer(found, "Conv3")
    (reader,) = members_with(group, Role.READS)
    assert reader.units.tolist() == np.repeat(np.arange(6), 16).tolist()


def test_after_flatten_of_a_channels_last_map_units_interleave() -> None:
    n, x = image()
    x = n.op("Transpose", n.relu(n.conv(x, 6)), perm=[0, 2, 3, 1])
    found = groups_of(n.build(n.gemm(n.op("Flatten", x), 6 * 64, 5)))
    (reader,) = members_with(found.groups[0], Role.READS)
    assert reader.units.tolist() == np.tile(np.arange(6), 64).tolist()


# ---- 2. Reshape equates rows, Transpose does not ------------------------------------------------


def test_a_reshape_that_splits_channels_keeps_what_is_rectangular() -> None:
    n, x = image()
    x = n.relu(n.conv(x, 12))
    x = n.relu(n.op("Reshape", x, n.const([0, 3, 4, 8, 8])))
    x = n.op("Reshape", x, n.const([0, 12, 8, 8]), channels=12)
    found = groups_of(n.build(n.head(x)))
    group = group_of_layer(found, "Conv0")
    (maker,) = members_with(group, Role.MAKES)
    assert group.n_units == 4
    assert maker.units.tolist() == [0, 1, 2, 3] * 3


def test_a_channel_shuffle_ties_no_channels() -> None:
    found = groups_of(NETS["channel_shuffle"]())
    assert [group.n_units for group in found.groups] == [8, 8, 8]


# ---- 3. grouped convolutions --------------------------------------------------------------------


def test_a_grouped_convolution_couples_position_j_of_every_group_on_both_sides() -> None:
    found = groups_of(NETS["grouped"]())
    before, after = group_of_layer(found, "Conv0"), group_of_layer(found, "Conv3")
    (makes_before,) = members_with(before, Role.MAKES)
    (makes_after,) = members_with(after, Role.MAKES)
    (reads_before,) = members_with(before, Role.READS)
    assert makes_before.units.tolist() == [0, 1, 2, 3] * 4
    assert reads_before.units.tolist() == [0, 1, 2, 3]
    assert makes_after.units.tolist() == list(range(8)) * 4


# ---- 4. multiplicity ----------------------------------------------------------------------------


def test_after_an_uneven_concat_units_that_occur_twice_have_their_own_profile() -> None:
    found = groups_of(NETS["uneven_concat_split"]())
    assert found.groups[0].profile.tolist() == [0] * 8 + [1] * 16


def test_units_of_one_layer_that_occur_equally_often_share_a_profile() -> None:
    found = groups_of(NETS["plain_bn"]())
    assert [set(group.profile.tolist()) for group in found.groups] == [{0}, {0}]


# ---- 5. slots that are always zero --------------------------------------------------------------


def test_a_padded_slot_joins_its_neighbour_and_needs_no_weight() -> None:
    found = groups_of(NETS["padded_shortcut_constant"]())
    spine = group_of_layer(found, "Conv0")
    first = next(m for m in members_with(spine, Role.MAKES) if m.units.size == 8)
    wide = next(m for m in members_with(spine, Role.MAKES) if m.units.size == 16)
    assert spine.n_units == 16
    assert first.units.tolist() == wide.units.tolist()[4:12]


def test_padded_slots_beside_nothing_are_no_units() -> None:
    n, x = image()
    x = n.op("Pad", n.relu(n.conv(x, 8)), n.const([0, 2, 0, 0, 0, 2, 0, 0]), channels=12)
    found = groups_of(n.build(n.head(n.relu(n.conv(x, 8)))))
    (reader,) = members_with(group_of_layer(found, "Conv0"), Role.READS)
    assert reader.units.tolist() == [-1, -1, *range(8), -1, -1]


# ---- 7. outputs, mixing, statistics (6 is test_mending.py) --------------------------------------


def test_channels_of_a_graph_output_stay() -> None:
    found = groups_of(NETS["two_outputs_one_inner"]())
    held = {entry.node: entry for entry in found.frozen}
    assert held["relu5"].reason is FreezeReason.GRAPH_OUTPUT
    assert held["relu5"].layers == ("Conv3",)


@pytest.mark.parametrize(
    ("name", "op_type"),
    [
        ("channel_softmax", "Softmax"),
        ("layer_norm_channels", "LayerNormalization"),
        ("lrn", "LRN"),
    ],
)
def test_an_operator_that_mixes_channels_holds_only_the_layer_before_it(
    name: str, op_type: str
) -> None:
    found = groups_of(NETS[name]())
    mixing = [e for e in found.frozen if e.reason is FreezeReason.MIXES_CHANNELS]
    assert [(e.node.split("(")[1], e.layers) for e in mixing] == [(f"{op_type})", ("Conv3",))]
    assert [group.layers for group in found.groups] == [("Conv0",), (found.layers[2].node,)]


def test_instance_normalisation_scales_channels_one_by_one() -> None:
    group = group_of_layer(groups_of(NETS["instance_norm"]()), "Conv0")
    assert group.n_units == 12
    assert len(members_with(group, Role.SCALES)) == 3


@pytest.mark.parametrize("kernel", [1, 3])
def test_windows_that_slide_over_channels_hold_them_by_name(kernel: int) -> None:
    n, x = image()
    x = n.conv(x, 8)
    rows = n.op("Squeeze", n.op("GlobalAveragePool", x), n.const([3]))
    rows = n.op("Transpose", rows, perm=[0, 2, 1])  # (N, 1, channels)
    n.channels[rows] = 1
    weight = n.random(1, 1, kernel)
    gate = n.op("Conv", rows, weight, pads=[kernel // 2] * 2)
    gate = n.op("Unsqueeze", n.op("Transpose", gate, perm=[0, 2, 1]), n.const([3]))
    y = n.op("Mul", x, n.op("Sigmoid", gate))
    n.channels[y] = 8
    found = groups_of(n.build(n.head(n.relu(n.conv(y, 6))), output_shape=["N", 5]))
    reasons = {entry.reason for entry in found.frozen if "Conv0" in entry.layers}
    assert FreezeReason.NOT_CHANNEL_AXIS in reasons
    assert FreezeReason.SINGLE_UNIT not in reasons


def test_queries_and_keys_are_one_group_of_widths_and_values_another() -> None:
    n, x = image()
    tokens = n.op("Transpose", n.op("Reshape", n.conv(x, 6), n.const([0, 0, 64])), perm=[0, 2, 1])
    q, k, v = (n.op("MatMul", tokens, n.random(6, 10, fan_in=6)) for _ in range(3))
    made = [node.name for node in n.nodes if node.op_type == "MatMul"]
    seen = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1])))
    y = n.op("Transpose", n.op("MatMul", seen, v), perm=[0, 2, 1])
    y = n.op("Reshape", y, n.const([0, 0, 8, 8]))
    n.channels[y] = 10
    found = groups_of(n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5]))
    pair, values = group_of_layer(found, made[0]), group_of_layer(found, made[2])
    assert pair.layers == (made[0], made[1])
    assert values.layers == (made[2],)
    assert [r.axis for r in pair.reductions] == [2]
    assert values.reductions == ()


# ---- what holds for no operator in particular ---------------------------------------------------


def test_a_one_channel_map_over_positions_stays_and_ties_nothing() -> None:
    found = groups_of(NETS["spatial_attention"]())
    broadcast = [e for e in found.frozen if e.reason is FreezeReason.BROADCAST]
    assert [e.layers for e in broadcast] == [("Conv5",)]
    assert group_of_layer(found, "Conv0").n_units == 16
    assert group_of_layer(found, "Conv3").n_units == 8


def test_a_shared_bias_is_one_member_per_use() -> None:
    found = groups_of(NETS["shared_bias"]())
    uses = [
        (group.id, member.uses)
        for group in found.groups
        for member in group.members
        if member.tensor == "shared_bias"
    ]
    assert uses == [("g00", ("0:2",)), ("g01", ("2:2",))]


def test_a_shared_convolution_makes_its_input_and_output_one_group() -> None:
    found = groups_of(NETS["shared_conv"]())
    group = group_of_layer(found, "Conv0")
    shared = [m for m in group.members if m.tensor == "c5"]
    assert {(m.axis, m.role) for m in shared} == {(0, Role.MAKES), (1, Role.READS)}
    assert shared[0].units.tolist() == shared[1].units.tolist()


def test_a_weight_that_a_stranger_reads_as_well_is_frozen() -> None:
    n, x = image()
    w = n.random(8, 3, 3, 3, fan_in=27)
    y = n.relu(n.op("Conv", x, w, channels=8, pads=[1, 1, 1, 1]))
    model = n.build(n.head(n.block(y, 8)), n.op("Shape", n.op("Det", n.op("Identity", w))))
    found = groups_of(model)
    shared = [e for e in found.frozen if e.reason is FreezeReason.SHARED_WEIGHT]
    assert [entry.layers for entry in shared] == [("Conv0",)]


def test_a_weight_that_is_also_an_output_is_frozen() -> None:
    n, x = image()
    w = n.random(8, 3, 3, 3, fan_in=27)
    y = n.relu(n.op("Conv", x, w, channels=8, pads=[1, 1, 1, 1]))
    found = groups_of(n.build(n.head(n.block(y, 8)), n.op("Identity", w)))
    assert "Conv0" not in [layer for group in found.groups for layer in group.layers]


def test_a_weight_computed_at_run_time_freezes_its_input() -> None:
    n, x = image()
    y = n.block(x, 8)
    kernel = n.op("Mul", n.op("ReduceMean", x), n.random(8, 8, 3, 3))
    z = n.op("Conv", y, kernel, pads=[1, 1, 1, 1])
    found = groups_of(n.build(n.head(n.block(z, 8))))
    reasons = {e.reason for e in found.frozen if "Conv0" in e.layers}
    assert FreezeReason.COMPUTED_WEIGHT in reasons


def test_an_unknown_operator_holds_only_what_it_touches(tmp_path: Path) -> None:
    onnx.save(COUPLED_ONLY["unknown_domain"](), str(tmp_path / "in.onnx"))
    found = find_groups(load(tmp_path / "in.onnx"))
    held = {layer for entry in found.frozen for layer in entry.layers}
    assert found.ops_without_rule == ("com.example.Mystery",)
    assert "Conv0" not in held
    assert "Conv3" in held


def test_ignored_layers_stay() -> None:
    found = find_groups(from_proto(NETS["plain_bn"]()), ignore=("Conv3",))
    assert [group.layers for group in found.groups] == [("Conv0",)]
    assert [e.layers for e in found.frozen if e.reason is FreezeReason.IGNORED] == [("Conv3",)]


def test_a_positive_factor_passes_relu_but_not_sigmoid() -> None:
    def net(activation: str) -> GroupMap:
        n, x = image()
        return groups_of(n.build(n.head(n.op(activation, n.conv(x, 8)))))

    assert net("Relu").groups[0].homogeneous
    assert not net("Sigmoid").groups[0].homogeneous


def test_all_weights_of_a_residual_spine_are_members_of_one_group() -> None:
    n = Net()
    x = n.block(n.input("N", 3, 8, 8), 8)
    for _ in range(3):
        x = n.relu(n.op("Add", x, n.bn(n.conv(n.block(x, 4), 8))))
    found = groups_of(n.build(n.head(x)))
    spine = group_of_layer(found, "Conv0")
    roles = [member.role for member in spine.members]
    assert roles.count(Role.MAKES) == 4
    assert roles.count(Role.READS) == 4
    assert {member.tensor for member in members_with(spine, Role.SCALES)} == bn_and_bias_tensors(n)


def bn_and_bias_tensors(n: Net) -> set[str]:
    """Every vector of 8 entries: the spine's width, which no other layer has."""
    return {name for name, array in n.weights.items() if array.shape == (8,)}


def test_copies_that_a_gather_reorders_make_profiles_of_their_own() -> None:
    """x, -x and x again: which copy comes first tells the units apart."""
    n, x = image()
    x = n.relu(n.conv(x, 3))
    y = n.concat(x, n.op("Neg", x), x)
    order = [0, 3, 6, 1, 4, 7, 5, 2, 8]  # channel 2 comes as -x, x, x
    y = n.op("Gather", y, n.const(order), axis=1)
    found = groups_of(n.build(n.head(n.block(y, 8))))
    assert group_of_layer(found, "Conv0").profile.tolist() == [0, 0, 1]


def test_flattened_positions_that_a_slice_cuts_make_profiles_of_their_own() -> None:
    n, x = image()
    flat = n.op("Flatten", n.op("MaxPool", n.conv(x, 4), kernel_shape=[4, 4], strides=[4, 4]))
    part = n.slice(
        flat, [1], [15], [1]
    )  # the first unit loses its first position, the last its last
    found = groups_of(n.build(n.gemm(part, 14, 5)))
    assert found.groups[0].profile.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("op", ["Reshape", "Squeeze"])
def test_sizes_that_fit_no_run_hold_their_channels(op: str) -> None:
    """The free height is tried at a size that the Reshape (or the Squeeze) does not take."""
    n = Net()
    y = n.conv(n.relu(n.conv(n.input("N", 3, "H", 8), 8)), 6)
    n.channels[y] = 6
    if op == "Reshape":
        y = n.op("Reshape", y, n.const([1, 6, 32]))
    else:
        y = n.op("Squeeze", y, n.const([2]))
    found = groups_of(n.build(n.op("Relu", y)))
    reasons = {e.reason for e in found.frozen if "Conv2" in e.layers}
    assert FreezeReason.UNKNOWN_SHAPE in reasons
    assert [group.layers for group in found.groups] == [("Conv0",)]
