"""`export-torch`: programs and state dicts that compute what the model does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from net_builder import image  # noqa: E402

from onnx_scsp.errors import ConfigError, OutputError, UnsupportedError, VerifyError  # noqa: E402
from onnx_scsp.graph.load import load  # noqa: E402
from onnx_scsp.retrain.export import export_program, export_state_dict  # noqa: E402
from retrain.running import apart, feeds_of, runtime  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    n, x = image()
    y = n.block(x, 4)
    rows = n.op("Slice", n.op("Shape", y), n.const([0]), n.const([1]))
    y = n.op("Reshape", y, n.op("Concat", rows, n.const([-1]), axis=0))
    path = tmp_path / "net.onnx"
    onnx.save(n.build(y), path)
    return path


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnx_scsp.cli.app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_program_runs_at_any_batch_size(model_file: Path, batch: int) -> None:
    out = model_file.with_name("net.pt2")
    written = export_program(load(model_file), out)
    assert written.batch == "any"
    model = load(model_file)
    feeds = feeds_of(model, 3, batch=batch)
    module = torch.export.load(out).module()
    results = module(*map(torch.from_numpy, feeds.values()))
    names = [output.name for output in model.proto.graph.output]
    found = {name: y.detach().numpy() for name, y in zip(names, results, strict=True)}
    assert apart(found, runtime(model, feeds)) <= 1e-5


def test_a_program_holds_empty_constants(tmp_path: Path) -> None:
    """As a Resize by scales has in place of its region."""
    n, x = image()
    empty = n.const(np.zeros(0, np.float32))
    y = n.op("Resize", n.conv(x, 4), empty, n.const([1.0, 1.0, 2.0, 2.0]))
    path = tmp_path / "net.onnx"
    onnx.save(n.build(y), path)
    assert export_program(load(path), tmp_path / "net.pt2").divergence < 1e-5


def test_a_note_says_how_to_load_the_program(model_file: Path) -> None:
    written = export_program(load(model_file), model_file.with_name("net.pt2"))
    text = written.note.read_text(encoding="utf-8")
    assert 'torch.export.load("net.pt2")' in text
    assert "input x: N x" in text


def test_a_state_dict_has_the_names_of_the_file(model_file: Path) -> None:
    out = model_file.with_name("net.npz")
    export_state_dict(load(model_file), out)
    stored = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model_file).graph.initializer
    }
    with np.load(out, allow_pickle=False) as found:
        assert set(found) == set(stored)
        for name, array in stored.items():
            np.testing.assert_array_equal(found[name], array)


def test_safetensors_have_the_names_of_the_file(model_file: Path) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    out = model_file.with_name("net.safetensors")
    export_state_dict(load(model_file), out)
    names = {t.name for t in onnx.load(model_file).graph.initializer}
    assert set(load_file(out)) == names


def test_other_suffixes_of_a_state_dict_are_refused(model_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.safetensors or \.npz"):
        export_state_dict(load(model_file), model_file.with_name("net.pt"))


def test_a_folder_that_is_not_there_is_refused(model_file: Path) -> None:
    with pytest.raises(OutputError):
        export_program(load(model_file), model_file.parent / "none" / "net.pt2")


def test_the_verb_writes_program_and_note(model_file: Path) -> None:
    out = model_file.with_name("verb.pt2")
    found = cli("export-torch", model_file, "-o", out, "--json")
    assert found.returncode == 0, found.stderr
    record = json.loads(found.stdout)
    assert record["batch"] == "any"
    assert out.exists()
    assert Path(record["note"]).exists()


def test_an_operator_without_a_counterpart_is_one_sentence(tmp_path: Path) -> None:
    n, x = image()
    path = tmp_path / "det.onnx"
    onnx.save(n.build(n.op("Det", x), output_shape=["N", 3]), path)
    found = cli("export-torch", path, "-o", tmp_path / "det.pt2")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "operator Det" in found.stderr
    assert not (tmp_path / "det.pt2").exists()


def test_what_torch_cannot_trace_is_one_sentence(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such trace")

    monkeypatch.setattr(torch.export, "export", refuse)
    out = model_file.with_name("net.pt2")
    with pytest.raises(UnsupportedError, match=r"no such trace.*--state-dict"):
        export_program(load(model_file), out)
    assert not out.exists()


def test_a_batch_that_the_tracer_fixes_is_said_so(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = torch.export.export

    def refuse(*arguments: object, dynamic_shapes: object, **options: object) -> object:
        if dynamic_shapes is not None:
            raise RuntimeError("no open sizes")
        return export(*arguments, **options)

    monkeypatch.setattr(torch.export, "export", refuse)
    written = export_program(load(model_file), model_file.with_name("net.pt2"))
    assert written.batch == "1"
    assert "batch size: 1 (the tracer fixes it)" in written.note.read_text(encoding="utf-8")


def test_a_program_that_computes_something_else_is_not_written(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.export.save

    def spoil(program: object, stream: object) -> None:
        # the weights are those of the module itself: write others, then put them back
        with torch.no_grad():
            weights = [w for w in program.state_dict.values() if w.is_floating_point()]
            for weight in weights:
                weight.mul_(2)
            save(program, stream)
            for weight in weights:
                weight.div_(2)

    monkeypatch.setattr(torch.export, "save", spoil)
    out = model_file.with_name("net.pt2")
    with pytest.raises(VerifyError, match="not written"):
        export_program(load(model_file), out)
    assert not out.exists()
