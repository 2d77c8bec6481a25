"""Ifs that always take one branch: the node stays in the file, and what it moves is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from branches import branch, choose, size_is, squeeze, there_and_back
from net_builder import Net, image
from onnx import TensorProto, helper, numpy_helper
from ops.branch_cases import SAME, TURN, counts_channels

from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import VerifyError
from onnx_scsp.graph.branches import find_routes
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.routes import Move, Route
from onnx_scsp.graph.view import view
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.types import FreezeReason

WIDTH = 12
CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
Body = Callable[[Net, str], str]


def network(body: Body, opset: int = 17) -> onnx.ModelProto:
    n, x = image(opset)
    y = body(n, n.relu(n.conv(n.relu(n.conv(x, 10)), WIDTH)))
    n.channels[y] = WIDTH
    return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


def pruned(model: onnx.ModelProto, folder: Path) -> PruneResult:
    files = [folder / name for name in ("in.onnx", "out.onnx", "plan.json")]
    onnx.save(model, str(files[0]))
    result = prune(files[0], files[1], CONFIG, plan_out=files[2])
    assert independent_twin.compare(*files).error <= 1e-4
    return result


def the_if(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "If")


def routes_of(model: onnx.ModelProto) -> list[tuple[Route, ...]]:
    loaded = from_proto(model)
    graph = view(loaded.proto)
    return list(find_routes(loaded, graph, Constants(loaded, graph)).values())


def is_cut(result: PruneResult) -> bool:
    assert result.layers["Conv0"] == (10, 5)
    return result.layers["Conv2"] == (WIDTH, WIDTH // 2)


def test_the_node_and_what_decides_stay_as_they_are(tmp_path: Path) -> None:
    model = network(there_and_back)
    result = pruned(model, tmp_path)
    assert is_cut(result)
    written = onnx.load(str(result.output))
    onnx.checker.check_model(written, full_check=True)
    assert the_if(written) == the_if(model)
    assert [n.op_type for n in written.graph.node] == [n.op_type for n in model.graph.node]


def test_a_condition_that_the_cut_would_change_becomes_what_it_was(tmp_path: Path) -> None:
    result = pruned(network(counts_channels), tmp_path)
    assert is_cut(result)
    written = onnx.load(str(result.output))
    (known,) = (t for t in written.graph.initializer if t.name == the_if(written).input[0])
    assert numpy_helper.to_array(known).all()


def test_sizes_that_a_body_declares_follow_from_what_it_reads(tmp_path: Path) -> None:
    """In the branch that never runs as well: there the declared sizes would contradict the cut."""

    def declared(n: Net, x: str) -> str:
        deep = n.op("Unsqueeze", x, n.const([1]))
        yes = branch(deep, ("Squeeze", [1]), sizes=["N", WIDTH, 8, 8])
        no = branch(deep, SAME, sizes=["N", 1, WIDTH, 8, 8])
        return choose(n, size_is(n, deep, 1, 1), yes, no)

    result = pruned(network(declared), tmp_path)
    assert is_cut(result)
    written = onnx.load(str(result.output))
    onnx.checker.check_model(written, full_check=True)
    for attribute in the_if(written).attribute:
        dims = attribute.g.output[0].type.tensor_type.shape.dim
        assert len(dims) in (4, 5)
        assert all(dim.dim_value == 0 for dim in dims)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written.append(pruned(network(counts_channels), tmp_path / name).output.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("opset", [11, 17])
def test_moves_in_a_row_are_followed_in_their_order(opset: int, tmp_path: Path) -> None:
    def moved(n: Net, x: str) -> str:
        flag = n.const(np.array(True), dtype=np.bool_)
        return choose(n, flag, branch(x, TURN, SAME, TURN, TURN), branch(x, SAME))

    model = network(moved, opset)
    turn = Move("Transpose", (0, 1, 3, 2))
    assert routes_of(model) == [(Route("relu3", (turn, Move("Identity"), turn, turn)),)]
    assert is_cut(pruned(model, tmp_path))


def test_two_outputs_come_from_two_values(tmp_path: Path) -> None:
    def crossed(n: Net, x: str) -> str:
        other = n.conv("x", WIDTH)
        flag = n.const(np.array(False), dtype=np.bool_)
        bodies = []
        for place, (first, second) in enumerate([(x, x), (other, x)]):
            body, more = branch(first, SAME), branch(second, TURN)
            del body.node[0].output[:], body.output[:]
            body.node[0].output.append(f"first{place}")
            body.node.extend(more.node)
            names = (f"first{place}", more.output[0].name)
            body.output.extend(helper.make_tensor_value_info(n, 1, None) for n in names)
            bodies.append(body)
        y, z = n.op("If", flag, outputs=2, then_branch=bodies[0], else_branch=bodies[1])
        n.channels.update({y: WIDTH, z: WIDTH})
        return str(n.concat(n.conv(y, 4), n.conv(z, WIDTH - 4)))

    model = network(crossed)
    ((first, second),) = routes_of(model)
    assert (first.source, second.source) == ("conv4", "relu3")
    result = pruned(model, tmp_path)
    assert is_cut(result)
    assert result.layers["Conv4"] == (WIDTH, WIDTH // 2)


def test_channels_beside_a_stored_constant_stay(tmp_path: Path) -> None:
    """One output of two comes from a constant: what it holds is no channel of any layer."""

    def beside(n: Net, x: str) -> str:
        stored, flag = n.random(1, WIDTH, 8, 8), n.const(np.array(True), dtype=np.bool_)
        bodies = []
        for place in range(2):
            body, more = branch(x, SAME), branch(stored, SAME)
            body.node[0].output[0] = body.output[0].name = f"channels{place}"
            more.node[0].output[0] = more.output[0].name = f"stored{place}"
            body.node.extend(more.node)
            body.output.extend(more.output)
            bodies.append(body)
        y, z = n.op("If", flag, outputs=2, then_branch=bodies[0], else_branch=bodies[1])
        return str(n.op("Add", y, z))

    result = pruned(network(beside), tmp_path)
    assert not is_cut(result)
    held = {f.reason for f in result.plan.frozen if "Conv2" in f.layers}
    assert FreezeReason.SUBGRAPH in held


def test_a_default_that_a_caller_may_override_decides_nothing(tmp_path: Path) -> None:
    def given(n: Net, x: str) -> str:
        flag = n.const(np.array(True), dtype=np.bool_)
        n.inputs.append(helper.make_tensor_value_info(flag, TensorProto.BOOL, []))
        return choose(n, n.op("Not", n.op("Not", flag)), branch(x, TURN), branch(x, SAME))

    model = network(given)
    assert routes_of(model) == []
    onnx.save(model, str(tmp_path / "in.onnx"))
    result = prune(tmp_path / "in.onnx", tmp_path / "out.onnx", CONFIG)
    assert not is_cut(result)


def test_operators_that_the_file_itself_defines_are_not_followed() -> None:
    model = network(there_and_back)
    assert routes_of(model)
    body = [helper.make_node("Neg", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Squeeze", ["a"], ["b"], body, opsets))
    assert routes_of(model) == []


def test_a_size_that_is_one_under_every_stand_in_but_depends_on_the_image_is_open() -> None:
    """Pooled from 224 or 256 pixels to one; from 500 it would be two."""
    n = Net()
    x = n.input("N", 3, "H", "W")
    x = n.op("AveragePool", n.conv(x, WIDTH), kernel_shape=[200, 200], strides=[200, 200])
    y = squeeze(n, x, 2)
    n.channels[y] = WIDTH
    assert routes_of(n.build(n.op("Relu", y), output_shape=["N", WIDTH, "W"])) == []


def test_a_wrong_route_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Channels taken for rows: the twin shows that labels went the wrong way."""

    def turned(n: Net, x: str) -> str:
        flag = n.const(np.array(True), dtype=np.bool_)
        x = choose(n, flag, branch(x, ("Transpose", [0, 2, 1, 3])), branch(x, SAME))
        return str(n.op("Transpose", x, perm=[0, 2, 1, 3]))

    model = network(turned)
    (tmp_path / "true").mkdir()
    assert is_cut(pruned(model, tmp_path / "true"))
    reverse = Route.apply
    monkeypatch.setattr(
        Route, "apply", lambda self, array: np.roll(reverse(self, array), 1, axis=2)
    )
    with pytest.raises(VerifyError):
        pruned(model, tmp_path)
