"""k-means folding, one of the rivals: planted clusters, and a network whose copies fold away."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.accuracy

from tools.accuracy.catalog import METHODS, Task  # noqa: E402
from tools.accuracy.ours import macs  # noqa: E402
from tools.accuracy.rivals_kmeans import kmeans, prune  # noqa: E402

KMEANS = next(method for method in METHODS if method.name == "kmeans")


def test_planted_clusters_are_found():
    random = np.random.default_rng(3)
    centres = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    truth = np.repeat(np.arange(4), 6)
    labels = kmeans(centres[truth] + random.normal(0, 0.1, (24, 2)), 4)
    assert len(set(zip(truth, labels, strict=True))) == 4


@pytest.mark.parametrize("k", [1, 3, 5])
def test_no_cluster_is_empty_even_among_copies(k):
    assert set(kmeans(np.ones((5, 2)), k)) == set(range(k))


@pytest.fixture
def task(tmp_path):
    """Conv (8 filters, each there twice) -> Relu -> Conv."""
    random = np.random.default_rng(5)
    weights = {
        "w1": np.repeat(random.standard_normal((8, 3, 3, 3)), 2, axis=0),
        "b1": np.repeat(random.standard_normal(8), 2),
        "w2": random.standard_normal((4, 16, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["y"], name="second"),
    ]
    values = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])
    graph = helper.make_graph(nodes, "copies", [x], [y], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "copies.onnx"
    onnx.save(model, path)
    return Task("copies", "copies", "cifar", str(path), "data", "top1", "x", (1, 3, 8, 8))


def outputs(path):
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    return ort.InferenceSession(str(path)).run(None, {"x": x})[0]


def test_copies_fold_away_without_a_trace(task, tmp_path):
    output = tmp_path / "folded.onnx"
    prune(task, KMEANS, 0.5, Path(), output)
    assert macs(output, task) * 2 == macs(Path(task.model), task)
    assert outputs(output) == pytest.approx(outputs(task.model), abs=1e-5)


def test_beyond_the_copies_it_costs(task, tmp_path):
    output = tmp_path / "folded.onnx"
    prune(task, KMEANS, 0.25, Path(), output)
    assert np.abs(outputs(output) - outputs(task.model)).max() > 1e-3
