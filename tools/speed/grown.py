"""Synthetic networks that grow: in nodes, in parameters, and one that is too big for one file.

Residual blocks Conv-BN-Relu-Conv-Add-Relu of one width, then a classifier. `python -m
tools.speed.grown DEPTH WIDTH KERNEL FILE [--external]` writes one; weights stream to the external
file, so that making a model takes no more memory than its largest tensor.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
"""Height and width of the input."""

CLASSES = 10


class Writer:
    """Collects nodes and weights; with a stream, weights go there."""

    def __init__(self, stream: BinaryIO | None, location: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._stream, self._location = stream, location
        self._rng = np.random.default_rng(0)

    def op(self, kind: str, *inputs: str) -> str:
        """Adds a node and gives its output's name."""
        name = f"{kind}{len(self.nodes)}"
        attributes = {"kernel_shape": self.kernel, "pads": self.pads} if kind == "Conv" else {}
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    kernel: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def conv(self, x: str, fan_in: int, width: int, kernel: int) -> str:
        """Adds a convolution that keeps the variance of its input."""
        self.kernel, self.pads = (kernel, kernel), (kernel // 2,) * 4
        shape = (width, fan_in, kernel, kernel)
        scale = np.float32((fan_in * kernel**2) ** -0.5)
        return self.op("Conv", x, self.weight(shape, scale))

    def norm(self, x: str, width: int) -> str:
        """Adds a normalisation with random statistics."""
        ranges = ((0.5, 1.5), (-0.1, 0.1), (-0.1, 0.1), (0.5, 1.5))
        names = [
            self.add(self._rng.uniform(low, high, width).astype(np.float32)) for low, high in ranges
        ]
        return self.op("BatchNormalization", x, *names)

    def weight(self, shape: tuple[int, ...], scale: np.float32) -> str:
        """Adds normal weights."""
        return self.add(self._rng.standard_normal(shape, np.float32) * scale)

    def add(self, value: np.ndarray) -> str:
        """Adds a constant, outside the file where there is a stream and it is worth it."""
        name = f"w{len(self.weights)}"
        if self._stream is None or value.nbytes < 1024:
            self.weights.append(numpy_helper.from_array(value, name))
            return name
        tensor = TensorProto(name=name, dims=value.shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": self._location, "offset": self._stream.tell()}
        for key, entry in {**entries, "length": value.nbytes}.items():
            tensor.external_data.add(key=key, value=str(entry))
        self._stream.write(value.tobytes())
        self.weights.append(tensor)
        return name


def write(depth: int, width: int, kernel: int, path: Path, *, external: bool = False) -> None:
    """Writes a network.

    Args:
        depth: Residual blocks, six nodes each.
        width: Channels.
        kernel: Side of the convolutions.
        path: The .onnx.
        external: Whether weights go to a file beside it.
    """
    if not external:
        path.write_bytes(_model(Writer(None, ""), depth, width, kernel).SerializeToString())
        return
    data = path.with_suffix(".data")
    with data.open("wb") as stream:
        model = _model(Writer(stream, data.name), depth, width, kernel)
    path.write_bytes(model.SerializeToString())


def _model(writer: Writer, depth: int, width: int, kernel: int) -> onnx.ModelProto:
    x = writer.conv("x", 3, width, 1)
    for _ in range(depth):
        y = writer.op("Relu", writer.norm(writer.conv(x, width, width, kernel), width))
        y = writer.conv(y, width, width, kernel)
        x = writer.op("Relu", writer.op("Add", x, y))
    x = writer.op("Flatten", writer.op("GlobalAveragePool", x))
    y = writer.op("MatMul", x, writer.weight((width, CLASSES), np.float32(width**-0.5)))
    graph = helper.make_graph(
        writer.nodes,
        "grown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", CLASSES])],
        writer.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Writes one network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    for name in ("depth", "width", "kernel"):
        parser.add_argument(name, type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--external", action="store_true")
    given = parser.parse_args()
    write(given.depth, given.width, given.kernel, given.file, external=given.external)


if __name__ == "__main__":
    main()
