"""Arrays as calibration data: in memory, .npy and .npz."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from onnx import TensorProto

from onnx_scsp.calibration import Preprocess, open_calibration
from onnx_scsp.errors import ConfigError
from onnx_scsp.inputs import model_inputs, open_arrays, read_inputs


@pytest.fixture
def model(model_of):
    return model_of(x=["n", 2, 3])


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((10, 2, 3)).astype(np.float32)


def read(data, size=4, name="x"):
    return np.concatenate([batch[name] for batch in data.batches(size)])


def saved(folder, kind, values):
    if kind == "npy":
        np.save(folder / "d.npy", values)
    elif kind == "fortran":
        np.save(folder / "d.npy", np.asfortranarray(values))
    elif kind == "npz":
        np.savez(folder / "d.npz", x=values)
    else:
        np.savez_compressed(folder / "d.npz", x=values)
    return next(folder.glob("d.*"))


@pytest.mark.parametrize("kind", ["npy", "fortran", "npz", "compressed"])
def test_every_file_gives_what_was_saved(kind, tmp_path, model, values):
    file = saved(tmp_path, kind, values)
    np.testing.assert_array_equal(read(open_calibration(file, model)), values)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_files_are_mapped_and_not_read(kind, tmp_path, model, values):
    arrays = open_arrays(saved(tmp_path, kind, values), model_inputs(model))
    assert isinstance(arrays["x"], np.memmap)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_memory_does_not_grow_with_the_number_of_samples(kind, tmp_path, model_of):
    big = np.zeros((512, 3, 64, 64), np.float32)  # 25 MB
    file = saved(tmp_path, kind, big)
    del big
    model = model_of(x=["n", 3, 64, 64])
    tracemalloc.start()
    data = open_calibration(file, model, limit=300)
    assert sum(len(batch["x"]) for batch in data.batches(8)) == 300
    data.fingerprint()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 5e6


def test_an_array_and_a_mapping_are_sources_too(model, values):
    by_name = read(open_calibration({"x": values}, model))
    np.testing.assert_array_equal(by_name, read(open_calibration(values, model)))


def test_arrays_take_the_type_of_the_model(model, values):
    assert read(open_calibration(values.astype(np.float64), model)).dtype == np.float32


def test_the_last_batch_may_be_smaller(model, values):
    sizes = [len(batch["x"]) for batch in open_calibration(values, model).batches(4)]
    assert sizes == [4, 4, 2]


def test_a_second_pass_gives_the_same(model, values):
    data = open_calibration(values, model, limit=5)
    np.testing.assert_array_equal(read(data), read(data))


def test_batches_are_copies(model, values):
    data = open_calibration(values, model)
    next(data.batches(4))["x"][:] = 0
    np.testing.assert_array_equal(read(data), values)


def test_several_inputs_are_read_side_by_side(model_of, tmp_path, values):
    np.savez(tmp_path / "d.npz", x=values, y=values[:, 0])
    data = open_calibration(tmp_path / "d.npz", model_of(x=["n", 2, 3], y=["n", 3]))
    for batch in data.batches(3):
        np.testing.assert_array_equal(batch["x"][:, 0], batch["y"])


def test_a_fixed_batch_is_filled_and_the_rest_dropped(model_of, values):
    data = open_calibration(values, model_of(x=[4, 2, 3]))
    assert data.fixed_batch == 4
    assert data.n_samples == 8
    assert [len(batch["x"]) for batch in data.batches(100)] == [4, 4]


def test_too_few_samples_for_a_fixed_batch_are_refused(model_of, values):
    with pytest.raises(ConfigError, match="10 samples do not fill the model's batch of 11"):
        open_calibration(values, model_of(x=[11, 2, 3]))


def test_inputs_that_fix_different_batches_are_refused(model_of, values):
    with pytest.raises(ConfigError, match=r"fix different batch sizes \(x 4, y 2\)"):
        open_calibration({"x": values, "y": values}, model_of(x=[4, 2, 3], y=[2, 2, 3]))


def test_an_input_without_axes_is_refused(model_of):
    with pytest.raises(ConfigError, match="input 'x' has no axes"):
        open_calibration(np.zeros(()), model_of(x=[]))


def test_a_limit_chooses_samples_by_the_seed(model, values):
    chosen = [open_calibration(values, model, limit=4, seed=seed).indices for seed in (0, 0, 1)]
    assert chosen[0].tolist() == chosen[1].tolist() != chosen[2].tolist()
    assert sorted(set(chosen[0].tolist())) == chosen[0].tolist()


def test_a_limit_gives_the_rows_it_names(model, values):
    data = open_calibration(values, model, limit=4)
    np.testing.assert_array_equal(read(data), values[data.indices])


def test_a_limit_above_the_number_of_samples_changes_nothing(model, values):
    np.testing.assert_array_equal(read(open_calibration(values, model, limit=99)), values)


@pytest.mark.parametrize("held_out", [0.01, 0.3, 0.5, 0.99])
def test_a_split_parts_the_samples(held_out, model, values):
    train, held = open_calibration(values, model).split(held_out)
    both = [*train.indices.tolist(), *held.indices.tolist()]
    assert sorted(both) == list(range(10))
    assert held.n_samples == min(max(round(10 * held_out), 1), 9)


def test_a_split_depends_on_the_seed_alone(model, values):
    held = [
        open_calibration(values, model, seed=s).split(0.4)[1].indices.tolist() for s in (1, 1, 2)
    ]
    assert held[0] == held[1] != held[2]


def test_a_split_gives_the_rows_it_names(model, values):
    _, held = open_calibration(values, model).split(0.4)
    np.testing.assert_array_equal(read(held), values[held.indices])


def test_a_split_of_a_fixed_batch_gives_whole_batches(model_of, values):
    train, held = open_calibration(values, model_of(x=[2, 2, 3])).split(0.3)
    assert (train.n_samples, held.n_samples) == (6, 2)


def test_a_split_that_leaves_no_whole_batch_is_refused(model_of, values):
    with pytest.raises(ConfigError, match="do not fill the model's batch of 4"):
        open_calibration(values, model_of(x=[4, 2, 3])).split(0.2)


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_out_of_range_is_refused(held_out, model, values):
    with pytest.raises(ConfigError, match=r"held-out share of .* is outside \(0, 1\)"):
        open_calibration(values, model).split(held_out)


def test_one_sample_cannot_be_split(model, values):
    with pytest.raises(ConfigError, match="1 sample cannot be split"):
        open_calibration(values[:1], model).split(0.5)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_the_fingerprint_is_that_of_the_values(kind, tmp_path, model, values):
    file = saved(tmp_path, kind, values)
    assert (
        open_calibration(file, model).fingerprint() == open_calibration(values, model).fingerprint()
    )


def test_the_fingerprint_notices_one_changed_value(model, values):
    before = open_calibration(values, model).fingerprint()
    values[7, 1, 2] += 1e-6
    assert open_calibration(values, model).fingerprint() != before


def test_the_fingerprint_depends_on_the_chosen_samples(model, values):
    train, held = open_calibration(values, model).split(0.5)
    assert train.fingerprint() != held.fingerprint()


REFUSED = {
    "a shape that does not fit": (
        np.zeros((4, 2, 5)),
        "input 'x' is 4x2x5, the model wants [?]x2x3",
    ),
    "a missing axis": (np.zeros((4, 2)), "input 'x' is 4x2, the model wants [?]x2x3"),
    "another name": ({"y": np.zeros((4, 2, 3))}, "holds y; the model's inputs are x"),
    "no arrays": ({}, "holds nothing; the model's inputs are x"),
    "no samples": (np.zeros((0, 2, 3)), "holds no samples"),
    "text": (np.full((4, 2, 3), "a"), "is of type <U1, the model wants float32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_are_refused_with(case, model):
    source, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words):
        open_calibration(source, model)


def test_inputs_of_different_lengths_are_refused(model_of, values):
    with pytest.raises(ConfigError, match=r"different numbers of samples \(x 10, y 9\)"):
        open_calibration({"x": values, "y": values[1:]}, model_of(x=["n", 2, 3], y=["n", 2, 3]))


def test_one_array_cannot_feed_two_inputs(model_of, values):
    with pytest.raises(ConfigError, match="holds one array, the model has inputs x, y"):
        open_calibration(values, model_of(x=["n", 2, 3], y=["n", 2, 3]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(bad, model, values):
    wide = values.astype(np.float64)
    wide[3, 0, 0] = bad
    with pytest.raises(ConfigError, match="values that are not finite in float32"):
        list(open_calibration(wide, model).batches(4))


@pytest.mark.parametrize("bad", [0.5, 256.0, -1.0])
def test_values_that_an_integer_input_cannot_hold_are_refused(bad, model_of):
    model = model_of(elem_type=TensorProto.UINT8, x=["n", 2])
    with pytest.raises(ConfigError, match="is uint8 in the model, and holds values that are none"):
        list(open_calibration(np.full((3, 2), bad), model).batches(4))


def test_a_missing_source_is_named(model):
    with pytest.raises(ConfigError, match=r"nosuch\.npz: no such file or folder"):
        open_calibration("nosuch.npz", model)


def test_a_file_of_another_kind_is_refused(tmp_path, model):
    (tmp_path / "d.txt").write_text("1 2 3")
    with pytest.raises(ConfigError, match="is no calibration data; give a folder of images"):
        open_calibration(tmp_path / "d.txt", model)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v", b"PK\x03\x04rest"])
def test_a_broken_file_is_refused(content, tmp_path, model):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot be read as \.npy or \.npz"):
        open_calibration(tmp_path / "d.npz", model)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_a_truncated_file_is_refused(kind, tmp_path, model, values):
    file = saved(tmp_path, kind, values)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"cannot be read as \.npy or \.npz"):
        open_calibration(file, model)


def test_pickled_objects_are_refused(tmp_path, model):
    np.save(tmp_path / "d.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ConfigError, match=r"cannot be read as \.npy or \.npz"):
        open_calibration(tmp_path / "d.npy", model)


def test_preprocessing_is_for_images(model, values):
    with pytest.raises(ConfigError, match="preprocessing is for a folder of images"):
        open_calibration(values, model, preprocess=Preprocess())


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit, model, values):
    with pytest.raises(ConfigError, match="is not positive"):
        open_calibration(values, model, limit=limit)


def test_a_batch_below_one_is_refused(model, values):
    with pytest.raises(ConfigError, match="a batch of 0 samples is not positive"):
        open_calibration(values, model).batches(0)


def test_inputs_for_verification_are_arrays_in_memory(tmp_path, model, values):
    found = read_inputs(saved(tmp_path, "npz", values.astype(np.float64)), model)["x"]
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
