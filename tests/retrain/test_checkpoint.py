"""Checkpoints: complete, atomic, without pickle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from onnx_scsp.errors import ConfigError, OutputError  # noqa: E402
from onnx_scsp.retrain import checkpoint as module  # noqa: E402
from onnx_scsp.retrain.checkpoint import (  # noqa: E402
    FILE,
    Checkpoint,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    write_checkpoint,
)
from onnx_scsp.retrain.optimise import make_optimiser  # noqa: E402
from onnx_scsp.retrain.options import RetrainConfig  # noqa: E402


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"net.a.weight": torch.randn(3, 2), "ema.x/y": torch.tensor(7)}
    write_checkpoint(Checkpoint({"epoch": 3, "loss_sum": 0.1 + 0.2}, tensors), tmp_path)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state["epoch"] == 3
    assert found.state["loss_sum"] == 0.1 + 0.2
    assert torch.equal(found.part("net")["a.weight"], tensors["net.a.weight"])
    assert found.part("ema")["x/y"].item() == 7


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None


def test_the_file_holds_no_pickle(tmp_path: Path) -> None:
    write_checkpoint(Checkpoint({}, {"net.w": torch.ones(2)}), tmp_path)
    data = (tmp_path / FILE).read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert set(json.loads(data[8 : 8 + length])) == {"__metadata__", "net.w"}


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch) -> None:
    write_checkpoint(Checkpoint({"epoch": 1}, {"net.w": torch.ones(2)}), tmp_path)

    def fails(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", fails)
    with pytest.raises(OutputError, match="No space left"):
        write_checkpoint(Checkpoint({"epoch": 2}, {"net.w": torch.ones(2)}), tmp_path)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("data", [b"", b"\x80\x04 a pickle", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(ConfigError, match="is no checkpoint of retraining"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_an_optimiser_goes_on_where_it_was(name: str) -> None:
    def steps(weight, optimiser, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            (weight.sin() * torch.arange(4.0)).sum().backward()
            optimiser.step()

    config = RetrainConfig(optimiser=name)
    through = torch.nn.Parameter(torch.ones(2, 4))
    first = make_optimiser([through], config)
    steps(through, first, 3)
    state = {k.removeprefix("opt."): v.clone() for k, v in optimiser_tensors(first).items()}
    again = torch.nn.Parameter(through.detach().clone())
    second = make_optimiser([again], config)
    restore_optimiser(second, state)
    steps(through, first, 3)
    steps(again, second, 3)
    assert torch.equal(through, again)
    fresh = torch.nn.Parameter(through.detach().clone())  # without its state it goes elsewhere
    steps(fresh, make_optimiser([fresh], config), 1)
    steps(through, first, 1)
    assert not torch.equal(through, fresh)
