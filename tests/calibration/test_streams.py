"""Functions that yield batches as calibration data."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onnx_scsp.calibration import Preprocess, open_calibration
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.load import load


@pytest.fixture
def model(model_of):
    return model_of(x=["n", 2])


def numbers(count=23, chunk=5):
    """Samples (k, -k), k = 0, 1, ..., in uneven chunks."""
    for start in range(0, count, chunk):
        k = np.arange(start, min(start + chunk, count), dtype=np.float32)
        yield {"x": np.stack((k, -k), axis=1)}


def seen(data, size=4):
    return [int(k) for batch in data.batches(size) for k in batch["x"][:, 0]]


def test_every_sample_arrives_in_order(model):
    assert seen(open_calibration(numbers, model)) == list(range(23))


def test_chunks_are_cut_and_joined_to_the_batch_size(model):
    data = open_calibration(numbers, model)
    assert [len(batch["x"]) for batch in data.batches(4)] == [4, 4, 4, 4, 4, 3]
    assert [len(batch["x"]) for batch in data.batches(9)] == [9, 9, 5]


def test_a_second_pass_calls_the_function_again(model):
    data = open_calibration(numbers, model)
    assert seen(data) == seen(data)


def test_a_limit_takes_the_first_samples(model):
    assert seen(open_calibration(numbers, model, limit=7)) == list(range(7))


def test_a_limit_stops_the_function(model):
    def endless():
        while True:
            yield {"x": np.zeros((4, 2))}

    assert len(seen(open_calibration(endless, model, limit=10))) == 10


def test_a_fixed_batch_is_filled_and_the_rest_dropped(model_of):
    data = open_calibration(numbers, model_of(x=[10, 2]))
    assert [len(batch["x"]) for batch in data.batches(1)] == [10, 10]


def test_too_few_samples_for_a_fixed_batch_are_refused(model_of):
    data = open_calibration(numbers, model_of(x=[24, 2]))
    with pytest.raises(ConfigError, match="23 samples do not fill the model's batch of 24"):
        list(data.batches(1))


def test_a_buffer_that_is_used_again_does_no_harm(model):
    buffer = np.zeros((1, 2), np.float32)

    def reuse():
        for k in range(6):
            buffer[:] = k
            yield {"x": buffer}

    assert seen(open_calibration(reuse, model)) == list(range(6))


def test_several_inputs_stay_side_by_side(model_of):
    def pairs():
        for found in numbers():
            yield {"x": found["x"], "y": found["x"][:, 1]}

    data = open_calibration(pairs, model_of(x=["n", 2], y=["n"]))
    assert all((batch["x"][:, 1] == batch["y"]).all() for batch in data.batches(4))


def test_lists_are_taken_as_arrays(model):
    assert seen(open_calibration(lambda: [{"x": [[1, 2], [3, 4]]}], model)) == [1, 3]


@pytest.mark.parametrize("held_out", [0.1, 0.25, 1 / 3, 0.5, 0.9])
def test_a_split_parts_the_samples(held_out, model):
    train, held = open_calibration(numbers, model).split(held_out)
    assert sorted(seen(train) + seen(held)) == list(range(23))
    assert abs(len(seen(held)) - 23 * held_out) <= 1


def test_a_split_does_not_depend_on_chunks_or_batches(model):
    held = [
        seen(open_calibration(lambda c=c: numbers(chunk=c), model).split(0.3)[1], size)
        for c, size in ((1, 3), (5, 4), (23, 1))
    ]
    assert held[0] == held[1] == held[2]


def test_a_split_depends_on_the_seed(model):
    held = [seen(open_calibration(numbers, model, seed=s).split(0.3)[1]) for s in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


def test_a_part_can_be_split_again(model):
    train, held = open_calibration(numbers, model).split(0.3)
    first, second = train.split(0.5)
    assert sorted(seen(first) + seen(second) + seen(held)) == list(range(23))


def test_the_fingerprint_is_that_of_the_same_samples_in_an_array(model):
    array = np.concatenate([chunk["x"] for chunk in numbers()])
    stream = open_calibration(numbers, model).fingerprint()
    assert stream == open_calibration(array, model).fingerprint()


def test_the_fingerprint_notices_a_change(model):
    short = open_calibration(lambda: numbers(22), model).fingerprint()
    assert short != open_calibration(numbers, model).fingerprint()


def test_a_named_function_is_given_the_path_of_the_model(tmp_path, monkeypatch, model_of):
    (tmp_path / "m.onnx").write_bytes(model_of(x=["n", 2]).proto.SerializeToString())
    (tmp_path / "stream_path.py").write_text(
        "from pathlib import Path\n"
        "def f(model_path):\n    assert Path(model_path).exists()\n    yield {'x': [[1, 2]]}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert seen(open_calibration("stream_path:f", load(tmp_path / "m.onnx"))) == [1]


def planted():
    yield {"x": np.zeros((2, 2))}
    raise RuntimeError("planted")


REFUSED = {
    "an error of its own": (planted, r"fails: RuntimeError: planted \(test_streams.py, line \d+\)"),
    "an error at once": (lambda: 1 / 0, "fails: ZeroDivisionError"),
    "nothing to iterate": (lambda: 3, "fails: TypeError"),
    "no dictionaries": (lambda: [np.zeros((2, 2))], "yields a ndarray; yield dictionaries"),
    "another name": (lambda: [{"y": np.zeros((2, 2))}], "holds y; the model's inputs are x"),
    "another shape": (lambda: [{"x": np.zeros((2, 3))}], "input 'x' is 2x3, the model wants [?]x2"),
    "no samples": (list, "yields no samples"),
    "values that are not finite": (lambda: [{"x": [[np.nan, 0]]}], "not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_function_is_refused_with(case, model):
    function, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words):
        list(open_calibration(function, model).batches(4))


def test_a_function_that_does_not_start_afresh_is_noticed(model):
    once = numbers()
    data = open_calibration(lambda: once, model)
    list(data.batches(4))
    with pytest.raises(ConfigError, match="must start afresh at every call"):
        list(data.batches(4))


def test_a_function_that_wants_more_is_refused(model):
    with pytest.raises(ConfigError, match="wants the argument 'other'"):
        open_calibration(lambda other: numbers(), model)


def test_a_function_that_wants_a_path_needs_a_model_with_one(model):
    with pytest.raises(ConfigError, match="the model has no file"):
        open_calibration(lambda model_path: numbers(), model)


def test_preprocessing_is_for_images(model):
    with pytest.raises(ConfigError, match="preprocessing is for a folder of images"):
        open_calibration(numbers, model, preprocess=Preprocess())
