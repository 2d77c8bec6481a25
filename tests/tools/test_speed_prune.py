"""What a pruned file has to be before it is timed: it runs, and its outputs keep their shapes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.speed


from tools.coverage.catalog import Network  # noqa: E402
from tools.speed.catalog import variants  # noqa: E402
from tools.speed.grown import write  # noqa: E402
from tools.speed.prune import CommandError, WrongResultError, _require_same_outputs, prune  # noqa: E402

OURS = variants(("--no-synthetic", "--no-gate"), ())[0]  # a model too small to be timed
NET = Network("grown", "plain", ((3, 8, 8),))


@pytest.fixture
def dense(tmp_path):
    write(3, 16, 3, tmp_path / "dense.onnx")
    return tmp_path / "dense.onnx"


def test_ours_goes_through_the_command_line_and_is_counted_in_the_file(dense, tmp_path):
    found = prune(NET, OURS, dense, 0.5, tmp_path / "out.onnx")
    assert found["outcome"] == "ok"
    assert 0.3 < found["macs_left"] <= 0.5
    assert "prune dense.onnx -o out.onnx --macs 0.5 --no-synthetic" in found["setting"]["command"]


def test_a_command_that_fails_says_what_it_said(dense, tmp_path):
    with pytest.raises(CommandError, match="exit status 2: "):
        prune(NET, OURS, dense, 0.0001, tmp_path / "out.onnx")


def test_a_file_that_does_not_run_is_wrong(dense, tmp_path):
    model = onnx.load(dense)
    bias = onnx.numpy_helper.from_array(np.zeros(7, np.float32), "bias")
    model.graph.initializer.append(bias)
    model.graph.node[0].input.append("bias")
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(WrongResultError, match="does not run"):
        _require_same_outputs(dense, tmp_path / "broken.onnx")


def test_a_file_with_other_outputs_is_wrong(dense, tmp_path):
    model = onnx.load(dense)
    last = next(w for w in model.graph.initializer if list(w.dims) == [16, 10])
    fewer = onnx.numpy_helper.to_array(last)[:, :9]
    last.CopyFrom(onnx.numpy_helper.from_array(fewer, last.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(WrongResultError, match="became"):
        _require_same_outputs(dense, tmp_path / "other.onnx")
    _require_same_outputs(dense, dense)
