"""How long coupling takes as graphs grow: residual networks of 100 to 10,000 nodes.

    python tools/bench_walk.py [--repeat 3]

Prints a table: nodes, median seconds of `find_groups`, and milliseconds per 1,000 nodes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import from_proto

SIZES = (100, 300, 1_000, 3_000, 10_000)
_NODES_PER_BLOCK = 6
_WIDTH = 32
_BLOCKS_PER_STAGE = 8


def network(nodes: int) -> onnx.ModelProto:
    """Residual blocks Conv-BN-Relu-Conv-Add-Relu, a wider projection every eighth block."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    graph_nodes: list[onnx.NodeProto] = []

    def op(kind: str, inputs: list[str], **attrs: object) -> str:
        name = f"{kind}{len(graph_nodes)}"
        graph_nodes.append(helper.make_node(kind, inputs, [name], name=name, **attrs))
        return name

    def conv(x: str, fan_in: int, out: int) -> str:
        name = f"w{len(weights)}"
        weights[name] = rng.standard_normal((out, fan_in, 1, 1)).astype(np.float32)
        return op("Conv", [x, name])

    def norm(x: str, channels: int) -> str:
        names = [f"n{len(weights) + i}" for i in range(4)]
        weights.update({name: np.ones(channels, np.float32) for name in names})
        return op("BatchNormalization", [x, *names])

    x = conv("x", 3, _WIDTH)
    for block in range((nodes - 4) // _NODES_PER_BLOCK):
        if block and block % _BLOCKS_PER_STAGE == 0:
            x = conv(x, _WIDTH, _WIDTH)
        y = op("Relu", [norm(conv(x, _WIDTH, _WIDTH), _WIDTH)])
        x = op("Relu", [op("Add", [x, conv(y, _WIDTH, _WIDTH)])])
    x = op("Flatten", [op("GlobalAveragePool", [x])])
    weights["fc"] = rng.standard_normal((_WIDTH, 10)).astype(np.float32)
    y = op("MatMul", [x, "fc"])
    graph = helper.make_graph(
        graph_nodes,
        "walk",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Times every size and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs per size, the median counts")
    repeat = parser.parse_args().repeat
    print("| nodes | seconds | ms per 1,000 nodes |\n|---|---|---|")
    for size in SIZES:
        model = from_proto(network(size))
        count = len(model.proto.graph.node)
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            find_groups(model)
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        print(f"| {count:,} | {seconds:.2f} | {1e6 * seconds / count:.0f} |", flush=True)


if __name__ == "__main__":
    main()
