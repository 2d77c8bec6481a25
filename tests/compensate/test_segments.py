"""A graph run in pieces computes what it computes as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from net_builder import image
from nets import NETS
from onnx import TensorProto, helper

import onnx_scsp
from compensate.nets import coupling_of
from onnx_scsp.compensate.segments import Runner, Shelf, alive_after, cut_graph
from onnx_scsp.compensate.sweep import layers_to_refit
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.surgery.cut import masked_reductions

Values = dict[str, np.ndarray]
BIG = 1 << 30
CUT = (
    "constant_nodes concat_branches computed_bias_and_scale dense_block dynamic_everything "
    "half_precision_store inputs_of_unlike_batch local_function old_style_ir3 "
    "padded_shortcut_computed quantised_weights residual_projection resize_computed_sizes "
    "two_outputs_one_inner uneven_concat_split weights_behind_views weights_generated"
).split()
"""Networks of the zoo that differ in what has to cross a border, or be computed on both sides."""


def absent_outputs() -> onnx.ModelProto:
    """Optional outputs and inputs without a name, in different pieces."""
    n, x = image()
    kept = n.op("Dropout", n.block(x, 8))
    n.nodes[-1].output.append("")
    y = n.block(kept, 12)
    n.nodes.append(helper.make_node("Clip", [y, "", n.const(2.0)], ["clipped"], "clip"))
    n.channels["clipped"] = 12
    return n.build(n.head(n.block("clipped", 8)))


def shape_arithmetic() -> onnx.ModelProto:
    """Scalars and sizes of the batch that cross borders."""
    n, x = image()
    y = n.block(x, 8)
    batch = n.op("Gather", n.op("Shape", y), n.const(0), axis=0)
    width = n.op("ReduceMax", y, keepdims=0)
    z = n.relu(n.conv(n.op("Div", y, n.op("Abs", width)), 12))
    rows = n.op("Unsqueeze", batch, n.const([0]))
    target = n.op("Concat", rows, n.const([-1]), axis=0)
    flat = n.op("Reshape", z, target)
    return n.build(n.gemm(flat, 12 * 64, 5), output_shape=["N", 5])


def branches() -> onnx.ModelProto:
    """An If whose bodies read an activation and a weight of the graph around them."""
    n, x = image()
    y = n.block(n.block(x, 8), 12)
    gain = n.positive(12, 1, 1)

    def body(op: str, made: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Mul", [y, gain], [f"{made}_gained"]),
            helper.make_node(op, [f"{made}_gained"], [made]),
        ]
        return helper.make_graph(
            nodes, made, [], [helper.make_tensor_value_info(made, TensorProto.FLOAT, None)]
        )

    total = n.op("ReduceSum", n.op("Neg", y), keepdims=0)
    condition = n.op("Greater", total, n.const(0.0))
    z = n.op("If", condition, then_branch=body("Neg", "a"), else_branch=body("Relu", "b"))
    n.channels[z] = 12
    return n.build(n.head(n.concat(n.block(z, 8), n.block(y, 4))), output_shape=["N", 5])


def sequence_output() -> onnx.ModelProto:
    """A graph output that is no tensor."""
    n, x = image()
    scores = n.head(n.block(n.block(x, 8), 12))
    proto = n.build(scores)
    made = n.op("SequenceConstruct", scores, scores)
    proto.graph.node.append(n.nodes[-1])
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    proto.graph.output.append(helper.make_value_info(made, kind))
    return proto


OWN: dict[str, Callable[[], onnx.ModelProto]] = {
    build.__name__: build for build in (absent_outputs, shape_arithmetic, branches, sequence_output)
}
ALL = {name: NETS[name] for name in CUT} | OWN


def feeds_of(coupling: Coupling, count: int, seed: int) -> Values:
    """Random inputs with as many samples as the model leaves open."""
    found = independent_twin.random_inputs(coupling.model.proto, seed)
    by_name = {value.name: value for value in coupling.model.proto.graph.input}
    for name, array in found.items():
        dims = by_name[name].type.tensor_type.shape.dim
        if array.ndim and not dims[0].dim_value:
            found[name] = np.concatenate([array[:1] * (1 + i) for i in range(count)])
    return found


def activations(coupling: Coupling) -> list[str]:
    walk = coupling.walk
    return [
        name
        for node in walk.graph.nodes
        for name in node.outputs
        if name and name not in walk.constants
    ]


def whole(coupling: Coupling, feeds: Values, proto: onnx.ModelProto | None = None) -> Values:
    """Every activation, from one run."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto or coupling.model.proto)
    names = activations(coupling)
    present = {output.name for output in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    del probe.graph.value_info[:]
    with open_variant(probe, coupling.model) as session:
        return run_session(session, feeds, names)


def in_pieces(
    coupling: Coupling, batches: list[Values], places: list[int], limit: int = BIG
) -> list[Values]:
    """Every activation, from pieces; what later ones do not need is forgotten on the way."""
    walk = coupling.walk
    segments = cut_graph(walk.graph, walk.constants, places)
    every = set(activations(coupling))
    found: list[Values] = [{} for _ in batches]
    with Shelf(limit) as shelf:
        for feeds in batches:
            shelf.put(shelf.add_batch(), feeds)
        for segment, alive in zip(segments, alive_after(segments), strict=True):
            mine = [
                name
                for index in segment.nodes
                if segment.start <= index < segment.stop
                for name in walk.graph.nodes[index].outputs
                if name in every
            ]
            runner = Runner(coupling.model, segment, mine, coupling.model.proto, 1)
            for number, values in enumerate(found):
                made = runner(shelf.get(number, segment.inputs))
                values |= made
                shelf.put(number, {name: made[name] for name in segment.outputs})
                shelf.forget(number, alive)
    return found


def compare(coupling: Coupling, places: list[int], limit: int = BIG) -> None:
    batches = [feeds_of(coupling, count, seed) for seed, count in enumerate((3, 2))]
    for feeds, values in zip(batches, in_pieces(coupling, batches, places, limit), strict=True):
        expected = whole(coupling, feeds)
        assert set(values) == set(expected)
        for name, array in expected.items():
            assert values[name].dtype == array.dtype
            np.testing.assert_allclose(values[name], array, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_pieces_compute_what_the_whole_computes(name: str) -> None:
    coupling = coupling_of(ALL[name]())
    count = len(coupling.walk.graph.nodes)
    rng = np.random.default_rng(0)
    compare(coupling, sorted(rng.choice(count, min(3, count), replace=False).tolist()))


STEPS = ["branches", "shape_arithmetic", "dense_block", "absent_outputs", "resize_computed_sizes"]


@pytest.mark.parametrize("name", STEPS)
def test_a_cut_before_every_node_computes_the_same(name: str) -> None:
    coupling = coupling_of(ALL[name]())
    compare(coupling, list(range(len(coupling.walk.graph.nodes))))


def test_values_on_disk_compute_the_same() -> None:
    coupling = coupling_of(NETS["residual_projection"]())
    compare(coupling, [2, 5, 9], limit=0)


def test_external_weights_are_found(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        NETS["residual_projection"](), path, save_as_external_data=True, size_threshold=0,
        location="weights.bin",
    )  # fmt: skip
    coupling = find_coupling(onnx_scsp.load(path))
    assert coupling.model.external_files
    compare(coupling, [2, 5, 9])


def test_a_graph_with_sequences_is_not_repaired() -> None:
    n, x = image()
    y = n.block(x, 8)
    both = n.op("SequenceConstruct", y, y)
    z = n.block(n.block(y, 12), 8)
    again = n.op("SequenceAt", both, n.const(1))
    n.channels[again] = 8
    proto = n.build(n.head(n.op("Add", z, again)), output_shape=["N", 5])
    coupling = coupling_of(proto)
    assert layers_to_refit(coupling, np.arange(coupling.n_units) % 2 > 0) == []


@pytest.mark.parametrize("name", ALL)
def test_every_node_runs_once(name: str) -> None:
    walk = coupling_of(ALL[name]()).walk
    count = len(walk.graph.nodes)
    segments = cut_graph(walk.graph, walk.constants, [1, count // 2, count - 1])
    assert [s.start for s in segments] == [0, 1, count // 2, count - 1]
    assert segments[-1].stop == count
    run = [i for s in segments for i in s.nodes if s.start <= i < s.stop]
    assert len(run) == len(set(run))
    computing = {
        node.index
        for node in walk.graph.nodes
        if not all(name in walk.constants for name in node.outputs if name)
    }
    assert computing <= set(run)
    for segment in segments:  # from elsewhere come only nodes that compute constants
        strangers = [i for i in segment.nodes if not segment.start <= i < segment.stop]
        assert not computing & set(strangers)


def test_a_piece_takes_up_only_what_it_needs() -> None:
    n, x = image()
    first = n.relu(n.conv(x, 4))
    second = n.relu(n.conv(first, 4))
    third = n.relu(n.conv(second, 4))
    walk = coupling_of(n.build(third)).walk
    segments = cut_graph(walk.graph, walk.constants, [2, 4])
    assert [(s.inputs, s.outputs) for s in segments] == [
        ((x,), (first,)),
        ((first,), (second,)),
        ((second,), ()),
    ]
    assert [s.constants for s in segments] == [("c0", "c1"), ("c2", "c3"), ("c4", "c5")]
    assert list(alive_after(segments)) == [{first, second}, {second}, set()]


def test_the_comparison_notices_a_changed_value_on_the_way() -> None:
    coupling = coupling_of(NETS["plain_bn"]())
    walk = coupling.walk
    segments = cut_graph(walk.graph, walk.constants, [3])
    feeds = feeds_of(coupling, 2, 0)
    expected = whole(coupling, feeds)
    (border,) = segments[1].inputs
    (output,) = walk.graph.outputs
    runner = Runner(coupling.model, segments[1], [output], coupling.model.proto, 1)
    right = runner({border: expected[border]})[output]
    wrong = runner({border: expected[border] + 0.1})[output]
    np.testing.assert_allclose(right, expected[output], rtol=1e-4, atol=1e-5)
    assert np.abs(wrong - expected[output]).max() > 1e-2


def test_a_piece_runs_with_the_weights_it_is_given() -> None:
    coupling = coupling_of(NETS["plain_folded"]())
    walk = coupling.walk
    changed = onnx.ModelProto()
    changed.CopyFrom(coupling.model.proto)
    for tensor in changed.graph.initializer:
        doubled = 2 * onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(doubled, tensor.name))
    feeds = feeds_of(coupling, 2, 0)
    segment = cut_graph(walk.graph, walk.constants, [2])[0]
    found = Runner(coupling.model, segment, [], changed, 1)(feeds)
    (name,) = segment.outputs
    np.testing.assert_allclose(found[name], whole(coupling, feeds, changed)[name], atol=1e-4)
    assert np.abs(found[name] - whole(coupling, feeds)[name]).max() > 0.1


def test_a_vector_of_whole_numbers_may_change_its_length() -> None:
    """One number per sample, and fewer samples in the last batch."""
    n, x = image()
    y = n.relu(n.conv(x, 4))
    best = n.op("ArgMax", n.op("GlobalAveragePool", y), axis=1, keepdims=0)
    flat = n.op("Reshape", best, n.const([-1]))
    z = n.relu(n.conv(y, 4))
    gain = n.op("Reshape", n.op("Cast", flat, to=TensorProto.FLOAT), n.const([-1, 1, 1, 1]))
    n.channels[gain] = 1
    compare(coupling_of(n.build(n.op("Mul", z, gain))), [5])


def test_an_empty_piece_makes_nothing() -> None:
    coupling = coupling_of(NETS["plain_bn"]())
    walk = coupling.walk
    empty = cut_graph(walk.graph, walk.constants, [0])[0]
    assert Runner(coupling.model, empty, [], coupling.model.proto, 1)({}) == {}


def test_a_mean_sees_zeros_for_what_goes() -> None:
    n, x = image()
    wide = n.block(x, 8)
    mean = n.op("ReduceMean", wide, axes=[1])
    n.channels[mean] = 1
    y = n.op("Mul", wide, n.op("Sigmoid", n.conv(mean, 1)))
    n.channels[y] = 8
    coupling = coupling_of(n.build(n.head(n.block(y, 6)), output_shape=["N", 5]))
    keep = np.ones(coupling.n_units, bool)
    units = coupling.activations[wide].reshape(-1)
    keep[units[[1, 4, 5]]] = False
    stays = keep[units].reshape(1, -1, 1, 1)
    (segment,) = cut_graph(coupling.walk.graph, coupling.walk.constants, [])[-1:]
    feeds = feeds_of(coupling, 3, 0)
    zeroed = masked_reductions(coupling, keep)
    run = Runner(coupling.model, segment, [mean, wide], coupling.model.proto, 1, zeroed)
    found = run(feeds)
    expected = np.where(stays, found[wide], 0.0).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found[mean], expected, rtol=1e-5, atol=1e-6)
    whole_mean = found[wide].mean(axis=1, keepdims=True)
    assert np.abs(whole_mean - expected).max() > 0.01


def test_a_layer_behind_a_mean_that_loses_channels_is_repaired() -> None:
    n, x = image()
    mean = n.op("ReduceMean", n.block(x, 8), axes=[1])
    n.channels[mean] = 1
    behind = n.conv(mean, 6)
    coupling = coupling_of(n.build(n.head(n.relu(behind)), output_shape=["N", 5]))
    keep = np.ones(coupling.n_units, bool)
    keep[: coupling.map.groups[0].n_units // 2] = False
    assert behind in {layer.y for layer in layers_to_refit(coupling, keep)}
