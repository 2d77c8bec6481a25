"""A user's own metric."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate import Predictor, evaluate


def test_a_number_goes_by_the_name_of_the_function(affine):
    def quality(model):
        return float(model({"x": np.ones((1, 3), np.float32)})["y"].sum())

    assert evaluate(affine(2.0), quality) == {"quality": 6.0}


def test_a_dictionary_keeps_its_names(affine):
    found = evaluate(affine(), lambda _: {"map": np.float32(0.5), "count": 3, "z": np.array(1)})
    assert found == {"map": 0.5, "count": 3.0, "z": 1.0}


def test_a_parameter_named_session_gets_the_session(affine):
    assert evaluate(affine(), lambda session: len(session.get_inputs())) == {"<lambda>": 1.0}


def test_any_other_parameter_gets_the_predictor(affine):
    assert evaluate(affine(), lambda p: isinstance(p, Predictor) + 0) == {"<lambda>": 1.0}


def test_more_parameters_with_defaults_do_no_harm(affine):
    assert evaluate(affine(), lambda session, n=2: n)["<lambda>"] == 2


def test_a_metric_is_found_by_its_name(affine, tmp_path, monkeypatch):
    (tmp_path / "metric_found.py").write_text("def f(predictor):\n    return 0.25\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert evaluate(affine(), "metric_found:f") == {"f": 0.25}


def fails(_):
    raise RuntimeError("planted")


REFUSED = {
    "nothing": (lambda _: None, "returns a NoneType as '<lambda>'; return a number"),
    "a truth value": (lambda _: True, "returns a bool"),
    "text": (lambda _: "good", "returns a str"),
    "an array": (lambda _: np.ones(3), "returns a ndarray"),
    "a dictionary of lists": (lambda _: {"a": [1]}, "returns a list as 'a'"),
    "an empty dictionary": (lambda _: {}, "returns no figures"),
    "no number": (lambda _: float("nan"), "returns nan as '<lambda>', which is no finite number"),
    "an error": (fails, r"fails: RuntimeError: planted \(test_own_metric.py, line \d+\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_metric_is_refused_that_gives(case, affine):
    function, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words):
        evaluate(affine(), function)


def test_a_metric_that_wants_two_arguments_is_refused(affine):
    with pytest.raises(ConfigError, match=r"wants 2 arguments \(a, b\); it is given one"):
        evaluate(affine(), lambda a, b: 0)
