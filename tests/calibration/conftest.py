"""Fixtures for the calibration tests: models that hand their inputs on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model


@pytest.fixture
def model_of() -> Callable[..., Model]:
    """A model from the shapes of its inputs."""

    def make(*, elem_type: int = TensorProto.FLOAT, **shapes: list[int | str]) -> Model:
        inputs = [helper.make_tensor_value_info(n, elem_type, s) for n, s in shapes.items()]
        outputs = [
            helper.make_tensor_value_info(f"{n}_out", elem_type, s) for n, s in shapes.items()
        ]
        nodes = [helper.make_node("Identity", [n], [f"{n}_out"]) for n in shapes]
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        opset = [helper.make_opsetid("", 17)]
        proto = helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.checker.check_model(proto)
        return from_proto(proto)

    return make


@pytest.fixture
def pixels() -> np.ndarray:
    """Seven colour images, (7, 6, 5, 3) in 0..255."""
    return np.random.default_rng(3).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """The same images as PNG files, partly in subfolders, named in order."""
    root = tmp_path / "images"
    for index, image in enumerate(pixels):
        home = root / ("a" if index < 3 else "b")
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{index}.png")
    return root
