"""Labels belong to the samples that are delivered."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnx_scsp.calibration import open_calibration
from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate import read_labels

ROWS = np.zeros((6, 3))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    for name in ("a/1.png", "a/2.png", "b.png"):
        Image.new("RGB", (4, 4)).save(root / name)
    return root


@pytest.mark.parametrize(
    "text", ["3\n1\n4\n1\n5\n9\n", "label\n3\n1\n4\n1\n5\n9", "\ufeff3\n1\n4\n1\n5\n9\n\n"]
)
def test_one_label_per_line(text, tmp_path, data_of):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / "l.csv", data_of(ROWS)).tolist() == [3, 1, 4, 1, 5, 9]


def test_a_limit_chooses_the_labels_too(tmp_path, data_of):
    np.save(tmp_path / "l.npy", np.arange(6))
    data = data_of(ROWS, limit=3, seed=1)
    assert read_labels(tmp_path / "l.npy", data).tolist() == data.indices.tolist()


def test_a_stream_takes_the_first_labels(tmp_path, affine):
    np.save(tmp_path / "l.npy", np.arange(6))
    data = open_calibration(lambda: [{"x": ROWS}], affine(), limit=2)
    assert read_labels(tmp_path / "l.npy", data).tolist() == [0, 1]


def test_labels_by_file_name_may_stand_in_any_order(tmp_path, folder, affine):
    (tmp_path / "l.csv").write_text("file,label\nb.png,7\na/2.png,6\na/1.png,5\nc.png,1\n")
    data = open_calibration(folder, affine(shape=("n", 3, 4, 4)))
    assert read_labels(tmp_path / "l.csv", data).tolist() == [5, 6, 7]


def test_a_file_without_label_is_named(tmp_path, folder, affine):
    (tmp_path / "l.csv").write_text("b.png,7\na/2.png,6\n")
    data = open_calibration(folder, affine(shape=("n", 3, 4, 4)))
    with pytest.raises(ConfigError, match=r"holds no label for 'a/1\.png'"):
        read_labels(tmp_path / "l.csv", data)


def test_file_names_need_a_folder(tmp_path, data_of):
    (tmp_path / "l.csv").write_text("b.png,7\na/2.png,6\n")
    with pytest.raises(ConfigError, match="names files, and the calibration data is no folder"):
        read_labels(tmp_path / "l.csv", data_of(ROWS))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(5), "holds 5 labels, the calibration data has 6 samples"),
        (np.arange(7), "holds 7 labels, the calibration data has 6 samples"),
        (np.zeros((6, 2), int), "holds no row of whole numbers"),
        (np.zeros(6), "holds no row of whole numbers"),
    ],
)
def test_arrays_of_no_use_are_refused(labels, words, tmp_path, data_of):
    np.save(tmp_path / "l.npy", labels)
    with pytest.raises(ConfigError, match=words):
        read_labels(tmp_path / "l.npy", data_of(ROWS))


def test_a_line_without_label_is_named(tmp_path, data_of):
    (tmp_path / "l.csv").write_text("1\ntwo\n")
    with pytest.raises(ConfigError, match="line 2: 'two' is no label"):
        read_labels(tmp_path / "l.csv", data_of(ROWS))


@pytest.mark.parametrize("name", ["l.csv", "l.npy"])
def test_a_missing_file_is_named(name, tmp_path, data_of):
    with pytest.raises(ConfigError, match="cannot be read as"):
        read_labels(tmp_path / name, data_of(ROWS))
