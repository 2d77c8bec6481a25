"""`eval`: figures on data, and one sentence with exit status 2 for what cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from onnx_scsp.cli.calibration import ImageOptions, calibration_source

FOLDED = Path(__file__).resolve().parents[2] / "models" / "digits_folded.onnx"


@pytest.fixture(scope="module")
def digits():
    """Forty digits (40, 1, 8, 8) with pixels in 0..1, and their classes."""
    found = load_digits()
    return (found.images[:40, None] / 16).astype(np.float32), found.target[:40]


@pytest.fixture
def folder(tmp_path, monkeypatch, model, digits):
    images, labels = digits
    np.savez(tmp_path / "data.npz", image=images)
    np.save(tmp_path / "data.npy", images)
    np.save(tmp_path / "wrong.npy", images[:, :, :7])
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "labels.csv").write_text("\n".join(str(label) for label in labels))
    (tmp_path / "images").mkdir()
    for index, image in enumerate(images):
        pixels = np.rint(image[0] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:02d}.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "i.png").write_bytes(b"no image")
    (tmp_path / "good.toml").write_text('scale = "1/255"\n')
    (tmp_path / "half.toml").write_text('resize = "crop"\nresize_shorter = 8\n')
    (tmp_path / "bad.toml").write_text("sizes = 8\n")
    (tmp_path / "eval_hooks.py").write_text(
        "import numpy as np\n"
        "images = np.load('data.npy')\n"
        "def total(model):\n    return {'n': float(len(model({'image': images})['logits']))}\n"
        "def fails(model):\n    raise ValueError('planted')\n"
        "def text(model):\n    return 'good'\n"
        "def stream():\n    yield {'image': images}\n"
        "def broken():\n    raise ValueError('planted')\n"
    )
    (tmp_path / "m.onnx").write_bytes(model.read_bytes())
    (tmp_path / "f.onnx").write_bytes(FOLDED.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("eval_hooks", None)


@pytest.mark.parametrize("data", ["data.npz", "data.npy", "images", "eval_hooks:stream"])
@pytest.mark.parametrize("labels", ["labels.npy", "labels.csv"])
def test_top1_of_every_kind_of_data(data, labels, run_json, folder):
    found = run_json("eval", "m.onnx", "--labels", labels, "--calib", data)
    assert found["metrics"] == {"top1": {"a": 1.0}}


def test_a_limit_takes_its_own_labels(run_json, folder):
    arguments = ("eval", "m.onnx", "--labels", "labels.npy", "--calib", "images")
    found = run_json(*arguments, "--calib-limit", 9, "--seed", 5)
    assert found["metrics"]["top1"]["a"] == 1.0


def test_an_own_metric_of_two_models_with_its_difference(run_json, folder):
    found = run_json("eval", "m.onnx", "f.onnx", "--eval", "eval_hooks:total")
    assert found["metrics"] == {"n": {"a": 40.0, "b": 40.0, "difference": 0.0}}
    assert "comparison" not in found


def test_two_models_are_compared_on_data(run_json, folder):
    found = run_json("eval", "m.onnx", "f.onnx", "--calib", "data.npz", "--calib-batch", 7)
    assert found["comparison"]["agreement"] == 1
    assert 0 <= found["comparison"]["divergence"] < 1e-8
    assert found["comparison"]["samples"] == 40


def test_two_models_get_metric_and_comparison(run_json, folder):
    arguments = ("eval", "m.onnx", "f.onnx", "--calib", "data.npz", "--labels", "labels.npy")
    found = run_json(*arguments, "--divergence", "mse", "--output-name", "logits")
    assert set(found) == {"models", "metrics", "comparison"}
    assert found["metrics"]["top1"]["difference"] == 0


def test_the_table_shows_every_figure(run, folder):
    result = run("eval", "m.onnx", "f.onnx", "--calib", "images", "--labels", "labels.csv")
    assert result.exit_code == 0, result.output
    for word in ("top1", "agreement", "divergence", "samples", "a: m.onnx", "b: f.onnx"):
        assert word in result.stdout


def test_wrong_preprocessing_shows_in_the_figures(run_json, folder):
    arguments = ("eval", "m.onnx", "--labels", "labels.npy", "--calib", "images")
    assert run_json(*arguments, "--mean", "0.5", "--std", "-1")["metrics"]["top1"]["a"] < 0.9


DATA = ("--calib", "data.npz")
IMAGES = ("--calib", "images", "--labels", "labels.npy")
CASES = {
    "nothing to measure": ((), "give --eval module:function, or --calib DATA"),
    "data alone": (DATA, "--calib alone measures nothing"),
    "labels alone": (("--labels", "labels.npy"), "give --calib DATA"),
    "two metrics": (("--eval", "a:b", "--labels", "labels.npy", *DATA), "not both"),
    "preprocessing without data": (("--eval", "a:b", "--size", "8"), "--size is for images"),
    "a preprocessing file without data": (
        ("--eval", "a:b", "--preprocess", "good.toml"), "--preprocess is for images",
    ),
    "preprocessing of arrays": (
        (*DATA, "--labels", "labels.npy", "--scale", "1"), "preprocessing is for a folder",
    ),
    "a metric that is misspelled": (("--eval", "a.py"), "is not module:function"),
    "a metric that is missing": (("--eval", "nosuch_module:f"), "no module 'nosuch_module'"),
    "a metric that fails": (("--eval", "eval_hooks:fails"), "fails: ValueError: planted"),
    "a metric that gives text": (("--eval", "eval_hooks:text"), "returns a str as 'text'"),
    "data that is missing": (
        ("--calib", "no.npz", "--labels", "labels.npy"), "no such file or folder",
    ),
    "data of another shape": (
        ("--calib", "wrong.npy", "--labels", "labels.npy"),
        "wrong.npy: input 'image' is 40x1x7x8, the model wants ?x1x8x8",
    ),
    "data from a function that fails": (
        ("--calib", "eval_hooks:broken", "--labels", "labels.npy"), "fails: ValueError: planted",
    ),
    "a folder without images": (("--calib", "empty", "--labels", "labels.npy"), "no images"),
    "an image that is none": (
        ("--calib", "broken", "--labels", "one.csv"), "broken/i.png cannot be read as an image",
    ),
    "labels that are missing": ((*DATA, "--labels", "no.npy"), "no.npy cannot be read"),
    "an output that is missing": (
        (*DATA, "--labels", "labels.npy", "--output-name", "no"), "has no output 'no'",
    ),
    "an unknown divergence": (("f.onnx", *DATA, "--divergence", "js"), "use one of auto, kl, mse"),
    "a size that is none": ((*IMAGES, "--size", "big"), "--size 'big' is not HxW"),
    "a size that does not fit": ((*IMAGES, "--size", "9x9"), "does not fit input 'image'"),
    "an unknown resize": ((*IMAGES, "--resize", "zoom"), "resize 'zoom' is unknown"),
    "an unknown layout": ((*IMAGES, "--layout", "hw"), "layout 'hw' is unknown"),
    "a colour that does not fit": ((*IMAGES, "--colour", "bgr"), "input 'image' has 1; use gray"),
    "a mean that is no number": ((*IMAGES, "--mean", "0.1,x"), "mean 'x' is no number"),
    "a std of zero": ((*IMAGES, "--std", "0"), "std 0 would divide by zero"),
    "a scale that is no number": ((*IMAGES, "--scale", "big"), "scale 'big' is no number"),
    "an unknown key": ((*IMAGES, "--preprocess", "bad.toml"), "key 'sizes' is unknown"),
    "an option that contradicts the file": (
        (*IMAGES, "--preprocess", "half.toml", "--resize", "pad"),
        "--resize with half.toml: resize_shorter goes with resize 'crop'",
    ),
    "a limit of nothing": ((*IMAGES, "--calib-limit", "0"), "is not positive"),
    "a batch of nothing": ((*IMAGES, "--calib-batch", "0"), "is not positive"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_is_refused_with_one_sentence(case, run, folder):
    (folder / "one.csv").write_text("1\n")
    arguments, sentence = CASES[case]
    result = run("eval", "m.onnx", *arguments)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.stderr.split())
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_without_options_there_is_no_preprocessing():
    assert calibration_source("images", ImageOptions()) == ("images", None)


def test_options_override_the_file(tmp_path):
    (tmp_path / "p.toml").write_text("size = 8\nscale = 1\nmean = [1, 2, 3]\n")
    images = ImageOptions(tmp_path / "p.toml", size="4x6", mean="0.5")
    _, recipe = calibration_source("images", images)
    assert (recipe.size, recipe.scale, recipe.mean) == ((4, 6), 1.0, 0.5)


def test_options_are_read_as_they_are_written():
    images = ImageOptions(size="8", scale="1/128", std="1,2,3", colour="bgr")
    _, recipe = calibration_source("images", images)
    assert (recipe.size, recipe.scale, recipe.std) == ((8, 8), 1 / 128, (1.0, 2.0, 3.0))
