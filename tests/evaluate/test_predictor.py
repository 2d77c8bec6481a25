"""A model as a function."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_scsp.errors import ConfigError, ModelError
from onnx_scsp.evaluate import Predictor


def test_it_answers_by_name(predictor):
    model = predictor(2.0, 1.0)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model({"x": x})["y"], 2 * x + 1)
    assert (model.input_names, model.output_names) == (("x",), ("y",))


def test_it_opens_a_file(affine, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(affine(3.0).proto.SerializeToString())
    model = Predictor(path)
    assert model.path == path
    assert model({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[3, 3, 3]]


def test_its_session_is_at_hand(predictor):
    assert predictor().session.get_inputs()[0].name == "x"


@pytest.mark.parametrize("count", [1, 3, 4, 6, 7])
def test_any_number_of_samples_runs_through_a_fixed_batch(count, predictor):
    model = predictor(2.0, shape=(3, 2))
    x = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    assert model.fixed_batch == 3
    np.testing.assert_array_equal(model({"x": x})["y"], 2 * x)


def test_an_output_without_sample_axis_cannot_be_put_together(predictor):
    model = predictor(shape=(2, 3), then="ReduceSum", keepdims=0)
    assert model({"x": np.ones((2, 3), np.float32)})["y"] == 6
    with pytest.raises(ConfigError, match="output 'y' has no sample axis"):
        model({"x": np.ones((4, 3), np.float32)})


def test_no_samples_are_refused(predictor):
    with pytest.raises(ConfigError, match="without samples"):
        predictor(shape=(2, 3))({"x": np.ones((0, 3), np.float32)})


def test_a_missing_input_is_named(predictor):
    with pytest.raises(ConfigError, match="input 'x' is missing; the model takes x"):
        predictor()({"z": np.ones((2, 3), np.float32)})


def test_a_missing_file_is_named():
    with pytest.raises(ModelError, match="no such file"):
        Predictor("nosuch.onnx")
