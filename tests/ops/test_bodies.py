"""If, Loop and Scan: what crosses the border of a body stays, with a reason; the rest is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from net_builder import Net, image
from onnx import TensorProto, helper, numpy_helper

from onnx_scsp.config import PruneConfig
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.types import FreezeReason

Body = Callable[[Net, str], str]
CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
WIDTH = 12
SHAPE = ["N", WIDTH, 8, 8]


def value(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> object:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[object],
    outputs: list[object],
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", inputs, outputs, list(weights))


def flag(n: Net) -> str:
    return n.const(np.array(True), dtype=np.bool_)


def branch(op_type: str, *inputs: str, **attrs: object) -> onnx.GraphProto:
    out = f"{op_type}_out"
    node = helper.make_node(op_type, list(inputs), [out], **attrs)
    return graph([node], [], [value(out, SHAPE)])


def if_captures(n: Net, x: str) -> str:
    return str(n.op("If", flag(n), then_branch=branch("Neg", x), else_branch=branch("Abs", x)))


def loop_body(nodes: list[onnx.NodeProto], weights: Sequence[onnx.TensorProto] = ()) -> object:
    """state -> state, as often as the count says."""
    go_on = helper.make_node("Identity", ["cond"], ["cond_out"])
    inputs = [
        value("i", [], TensorProto.INT64), value("cond", [], TensorProto.BOOL), value("s", SHAPE),
    ]  # fmt: skip
    outputs = [value("cond_out", [], TensorProto.BOOL), value("s_out", SHAPE)]
    return graph([go_on, *nodes], inputs, outputs, weights)


def loop(n: Net, x: str, nodes: list[onnx.NodeProto], *weights: onnx.TensorProto) -> str:
    count = n.const(2)
    return str(n.op("Loop", count, flag(n), x, body=loop_body(nodes, weights), channels=WIDTH))


def loop_carries(n: Net, x: str) -> str:
    return loop(n, x, [helper.make_node("Tanh", ["s"], ["s_out"])])


def loop_captures(n: Net, x: str) -> str:
    """The state is made from the image; only the body reads the channels."""
    return loop(n, n.conv("x", WIDTH), [helper.make_node("Add", ["s", x], ["s_out"])])


def loop_with_weights(n: Net, x: str) -> str:
    w = np.random.default_rng(0).standard_normal((WIDTH, WIDTH, 1, 1)).astype(np.float32) / 4
    nodes = [helper.make_node("Conv", ["s", "own"], ["s_out"])]
    return loop(n, x, nodes, numpy_helper.from_array(w, "own"))


def nested(n: Net, x: str) -> str:
    """An If within a Loop reads the channels from two levels up."""
    inner = helper.make_node(
        "If", ["cond"], ["m"], then_branch=branch("Neg", x), else_branch=branch("Abs", x)
    )
    return loop(n, n.conv("x", WIDTH), [inner, helper.make_node("Add", ["s", "m"], ["s_out"])])


def scan(axis: int) -> Body:
    """One step per sample, or per channel."""

    def fragment(n: Net, x: str) -> str:
        rest = [size for place, size in enumerate(SHAPE) if place != axis]
        step = graph(
            [helper.make_node("Tanh", ["slice"], ["made"])],
            [value("slice", rest)],
            [value("made", rest)],
        )
        axes = {"scan_input_axes": [axis], "scan_output_axes": [axis]}
        return str(n.op("Scan", x, body=step, num_scan_inputs=1, **axes))

    return fragment


BODIES: dict[str, Body] = {
    "If captures": if_captures,
    "Loop carries": loop_carries,
    "Loop captures": loop_captures,
    "Loop with weights of its own": loop_with_weights,
    "If within Loop": nested,
    "Scan over samples": scan(0),
    "Scan over channels": scan(1),
}


def network(body: Body) -> onnx.ModelProto:
    n, x = image()
    x = n.relu(n.conv(n.relu(n.conv(x, 10)), WIDTH))
    y = body(n, x)
    n.channels[y] = WIDTH
    return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


def pruned(model: onnx.ModelProto, folder: Path) -> PruneResult:
    source, output, plan = (folder / name for name in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(model, str(source))
    result = prune(source, output, CONFIG, plan_out=plan)
    assert independent_twin.compare(source, output, plan).error <= 1e-4
    return result


def bodies(model: onnx.ModelProto) -> list[bytes]:
    return [
        attribute.g.SerializeToString(deterministic=True)
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.GRAPH
    ]


@pytest.mark.parametrize("name", BODIES)
def test_what_crosses_the_border_stays_and_the_rest_is_cut(name: str, tmp_path: Path) -> None:
    model = network(BODIES[name])
    result = pruned(model, tmp_path)
    assert result.layers["Conv0"] == (10, 5)
    assert result.layers["Conv2"] == (WIDTH, WIDTH)
    reasons = {f.reason for f in result.plan.frozen if "Conv2" in f.layers}
    assert reasons == {FreezeReason.SUBGRAPH}
    assert result.after.macs < result.before.macs
    written = onnx.load(str(result.output))
    onnx.checker.check_model(written, full_check=True)
    assert bodies(written) == bodies(model)


def test_a_weight_that_a_body_also_reads_stays(tmp_path: Path) -> None:
    n, x = image()
    x = n.conv(n.relu(n.conv(x, 10)), WIDTH)
    shared = n.random(WIDTH, WIDTH, 1, 1, fan_in=WIDTH)
    y = n.op("Conv", n.relu(x), shared, channels=WIDTH)
    state = n.conv("x", WIDTH)
    z = loop(n, state, [helper.make_node("Conv", ["s", shared], ["s_out"])])
    n.channels[z] = WIDTH
    both = n.concat(n.relu(y), z)
    model = n.build(n.head(n.relu(n.conv(both, 8))), output_shape=["N", 5])
    result = pruned(model, tmp_path)
    assert result.layers["Conv0"] == (10, 5)
    assert result.layers["Conv2"] == (WIDTH, WIDTH)  # read by the shared weight
    assert result.layers["Conv4"] == (WIDTH, WIDTH)  # made by it
    reasons = {f.reason for f in result.plan.frozen if "Conv4" in f.layers}
    assert FreezeReason.SHARED_WEIGHT in reasons


def test_a_body_that_sees_no_channels_holds_none(tmp_path: Path) -> None:
    """One number from either branch, added to every channel."""
    n, x = image()
    number = [
        graph(
            [helper.make_node("Constant", [], ["number"], value_float=size)],
            [],
            [value("number", [])],
        )
        for size in (0.5, 2.0)
    ]
    x = n.conv(x, WIDTH)
    y = n.op("Add", x, n.op("If", flag(n), then_branch=number[0], else_branch=number[1]))
    n.channels[y] = WIDTH
    result = pruned(n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5]), tmp_path)
    assert result.layers["Conv0"] == (WIDTH, WIDTH // 2)


# ---- sizes that a body makes --------------------------------------------------------------------


def chosen(n: Net, name: str, size: int) -> str:
    """A vector of sizes that goes through an If."""
    branches = [
        graph(
            [helper.make_node("Identity", [name], [f"{name}_{place}"])],
            [],
            [value(f"{name}_{place}", [size], TensorProto.INT64)],
        )
        for place in "ab"
    ]
    return str(n.op("If", flag(n), then_branch=branches[0], else_branch=branches[1]))


def reshaped(n: Net, x: str) -> str:
    """The target is the very shape: right before and after a cut, but none can tell."""
    return str(n.op("Reshape", x, chosen(n, n.op("Shape", x), 4)))


def flattened(n: Net, x: str) -> str:
    flat = n.op("Reshape", x, chosen(n, n.const([0, WIDTH, 64]), 3))
    return str(n.op("Reshape", flat, n.const([0, WIDTH, 8, 8])))


def expanded(n: Net, x: str) -> str:
    return str(n.op("Expand", x, chosen(n, n.const([1, WIDTH, 8, 8]), 4)))


def resized(n: Net, x: str) -> str:
    sizes = chosen(n, n.const([2, WIDTH, 16, 16]), 4)
    return n.conv(n.op("Resize", x, "", "", sizes, mode="nearest"), WIDTH, stride=2)


def divided(n: Net, x: str) -> str:
    a, b = n.op("Split", x, chosen(n, n.const([4, WIDTH - 4]), 2), outputs=2, axis=1)
    n.channels.update({a: 4, b: WIDTH - 4})
    return n.concat(n.relu(b), a)


@pytest.mark.parametrize("body", [reshaped, flattened, expanded, resized, divided])
def test_sizes_that_a_body_makes_hold_the_channels_that_they_number(
    body: Body, tmp_path: Path
) -> None:
    n, x = image()
    if body is resized:
        n.inputs[0].type.tensor_type.shape.dim[0].dim_value = 2
    y = body(n, n.relu(n.conv(n.relu(n.conv(x, 10)), WIDTH)))
    n.channels[y] = WIDTH
    result = pruned(n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5]), tmp_path)
    assert result.layers["Conv0"] == (10, 5)
    assert result.layers["Conv2"] == (WIDTH, WIDTH)
    assert FreezeReason.DYNAMIC_VALUE in {
        f.reason for f in result.plan.frozen if "Conv2" in f.layers
    }
