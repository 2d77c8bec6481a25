"""Plants a plan that removes MACs and costs time, and shows what the gate makes of it.

The network is a chain of 1x1, depthwise and 1x1 convolutions, 64 wide, of which the plan keeps 63:
a multiple of 4 no longer, so that onnxruntime leaves its blocked layout. Prints MACs and measured
latency, as shares of the original's, for the plan as it is and after `gate="widen"`.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_scsp
from onnx_scsp.errors import VerifyError
from onnx_scsp.measure.compare import comparer
from onnx_scsp.types import PrunePlan

WIDTH, KEPT, BLOCKS, SIDE = 64, 63, 6, 56


def main() -> None:
    """Parses options and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(Path(folder), options.threads)


def show(folder: Path, threads: int) -> None:
    """Cuts the chain with and without the gate, and times the results."""
    path = folder / "chain.onnx"
    onnx.save(chain(), path)
    plan = planted(path)
    compare = comparer(threads=threads, thorough=True)
    source = onnx_scsp.load(path)
    quick = onnx_scsp.VerifyConfig(threads=threads)
    slow = onnx_scsp.prune_gated(path, folder / "slow.onnx", plan=plan, gate="off")
    seen = compare(source, folder / "slow.onnx")
    tell("planted plan", slow, seen.ratio, seen.noise)
    try:
        onnx_scsp.prune_gated(
            path, folder / "gated.onnx", plan=plan, threads=threads, verify_config=quick
        )
        print("the gate let it through: on this machine it is not slower")
    except VerifyError as error:
        print(f"gate check: {error}")
    mended = onnx_scsp.prune_gated(
        path, folder / "mended.onnx", plan=plan, threads=threads, gate="widen"
    )
    seen = compare(source, folder / "mended.onnx")
    tell("gate widen", mended, seen.ratio, seen.noise)
    for change in mended.plan.timing["gate"]["changes"]:
        print(f"  {change}")


def tell(name: str, result: onnx_scsp.PruneResult, ratio: float, noise: float) -> None:
    """One line of figures."""
    macs = result.after.macs / result.before.macs
    print(f"{name}: MACs {macs:.3f}, latency {ratio:.3f} (noise floor {noise:.3f})")


def planted(path: Path) -> PrunePlan:
    """A plan that takes one channel from every hidden group."""
    config = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, synthetic=False)
    plan = onnx_scsp.make_plan(onnx_scsp.load(path), config)
    cuts = tuple(
        replace(cut, keep=tuple(range(KEPT)), absorbed_by={}, scales={})
        for cut in plan.cuts
        if cut.n_units == WIDTH
    )
    return replace(plan, cuts=cuts)


def chain() -> onnx.ModelProto:
    """Blocks of 1x1, depthwise 3x3, 1x1, each with a ReLU."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def conv(x: str, fan: int, width: int, kernel: int = 1, groups: int = 1) -> str:
        shape = (width, fan // groups, kernel, kernel)
        values = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        name = f"conv{len(nodes)}"
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.weight"))
        nodes.append(
            helper.make_node(
                "Conv", [x, f"{name}.weight"], [name], name, pads=[kernel // 2] * 4, group=groups
            )
        )
        nodes.append(helper.make_node("Relu", [name], [f"{name}.out"], f"relu{len(nodes)}"))
        return f"{name}.out"

    x = conv("x", 3, 32, 3)
    for _ in range(BLOCKS):
        x = conv(conv(conv(x, 32, WIDTH), WIDTH, WIDTH, 3, WIDTH), WIDTH, 32)
    shape = [1, 32, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
