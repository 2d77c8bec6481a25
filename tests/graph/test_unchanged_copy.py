"""What nothing is cut from is written byte for byte."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

import onnx_scsp
from graph.rich import odd_model, overridable, rich_model
from graph.small import DIGITS, conv_net, listing, write, write_external

BACKEND = Path(onnx.__file__).parent / "backend" / "test" / "data"
ON_DISK = sorted((BACKEND / "light").glob("*.onnx")) + sorted(BACKEND.glob("*/*/model.onnx"))[::20]
EVERY = 20


def test_the_sample_of_backend_models_is_not_empty() -> None:
    assert len(ON_DISK) > 10


@pytest.mark.parametrize("file", ON_DISK, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_saving_a_loaded_backend_model_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    onnx_scsp.save(onnx_scsp.load(file), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == file.read_bytes()


def test_saving_every_twentieth_operator_test_model_gives_the_same_bytes(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases compute overflows on purpose
        cases = sorted(load_model_tests(kind="node"), key=lambda case: case.name)[::EVERY]
    changed = []
    for case in cases:
        proto = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
        source, output = write(proto, tmp_path / "in.onnx"), tmp_path / "out.onnx"
        onnx_scsp.save(onnx_scsp.load(source), output)
        if output.read_bytes() != source.read_bytes():
            changed.append(case.name)
    assert len(cases) > 50
    assert changed == []


@pytest.mark.parametrize(
    "proto",
    [conv_net(), rich_model(), odd_model(), overridable(3)],
    ids=["plain", "rich", "odd", "ir3"],
)
def test_a_plan_without_cuts_gives_the_same_bytes(proto: onnx.ModelProto, tmp_path: Path) -> None:
    source, output = write(proto, tmp_path / "in.onnx"), tmp_path / "out.onnx"
    model = onnx_scsp.load(source)
    plan = replace(onnx_scsp.make_plan(model), cuts=())
    onnx_scsp.prune(source, output, plan=plan, verified=False)
    assert output.read_bytes() == source.read_bytes()


def test_a_plan_without_cuts_passes_verification(tmp_path: Path) -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")
    plan = replace(onnx_scsp.make_plan(model), cuts=())
    result = onnx_scsp.prune(model.path, tmp_path / "out.onnx", plan=plan)
    assert result.report


def test_save_returns_the_number_of_bytes_written(tmp_path: Path) -> None:
    written = onnx_scsp.save(onnx_scsp.load(DIGITS / "digits_bn.onnx"), tmp_path / "out.onnx")
    assert written == (tmp_path / "out.onnx").stat().st_size


def test_an_unchanged_copy_takes_its_data_files_along(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = write_external(conv_net(), tmp_path / "a" / "net.onnx", lambda name: f"data/{name[:3]}")
    onnx_scsp.save(onnx_scsp.load(path), tmp_path / "b" / "net.onnx")
    assert listing(tmp_path / "b") == listing(tmp_path / "a")


def test_an_unchanged_copy_in_the_same_folder_shares_the_data_file(tmp_path: Path) -> None:
    path = write_external(conv_net(), tmp_path / "net.onnx", lambda _: "net.bin")
    before = listing(tmp_path)
    onnx_scsp.save(onnx_scsp.load(path), tmp_path / "copy.onnx")
    assert listing(tmp_path) == before | {"copy.onnx": path.read_bytes()}


def test_an_unchanged_copy_does_not_replace_another_models_data_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "net.bin").write_bytes(b"somebody else's")
    path = write_external(conv_net(), tmp_path / "net.onnx", lambda _: "net.bin")
    with pytest.raises(onnx_scsp.errors.OutputError, match="is another file"):
        onnx_scsp.save(onnx_scsp.load(path), tmp_path / "b" / "net.onnx")
    assert listing(tmp_path / "b") == {"net.bin": b"somebody else's"}


def test_an_unchanged_copy_cannot_take_the_name_of_its_own_data_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    path = write_external(conv_net(), tmp_path / "net.onnx", lambda _: "weights.onnx")
    with pytest.raises(onnx_scsp.errors.OutputError, match="data file"):
        onnx_scsp.save(onnx_scsp.load(path), tmp_path / "b" / "weights.onnx")
