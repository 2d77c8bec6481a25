"""Where a result cannot go: one sentence, and every existing file stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import onnx_scsp
from graph.conftest import HALF
from graph.small import conv_net, listing, write, write_external
from onnx_scsp.errors import OutputError
from onnx_scsp.graph.save import write_text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(conv_net(), tmp_path / "in.onnx")


def refused(source: Path, output: Path, folder: Path) -> str:
    """Prunes to a bad place, checks that no file changed, returns the message."""
    before = listing(folder)
    with pytest.raises(OutputError) as caught:
        onnx_scsp.prune(source, output, HALF)
    assert listing(folder) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


ALIASES: dict[str, Callable[[Path, Path], object]] = {
    "a symbolic link": lambda link, source: link.symlink_to(source),
    "a relative symbolic link": lambda link, source: link.symlink_to(source.name),
    "a hard link": lambda link, source: link.hardlink_to(source),
}


def test_the_input_itself_is_refused(source: Path, tmp_path: Path) -> None:
    assert "input model itself" in refused(source, source, tmp_path)


def test_the_input_by_another_spelling_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert "input model itself" in refused(source, tmp_path / "sub" / ".." / "in.onnx", tmp_path)


@pytest.mark.parametrize("alias", ALIASES)
def test_the_input_under_another_name_is_refused(alias: str, source: Path, tmp_path: Path) -> None:
    ALIASES[alias](tmp_path / "alias.onnx", source)
    assert "input model itself" in refused(source, tmp_path / "alias.onnx", tmp_path)


def test_the_inputs_data_file_is_refused(tmp_path: Path) -> None:
    source = write_external(conv_net(), tmp_path / "in.onnx", lambda _: "net.bin")
    assert "input model itself" in refused(source, tmp_path / "net.bin", tmp_path)


def test_a_directory_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "is a directory" in refused(source, tmp_path / "out", tmp_path)


def test_a_missing_folder_is_refused(source: Path, tmp_path: Path) -> None:
    assert "create it first" in refused(source, tmp_path / "absent" / "out.onnx", tmp_path)


def test_a_path_below_a_regular_file_is_refused(source: Path, tmp_path: Path) -> None:
    assert "create it first" in refused(source, source / "out.onnx", tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses even root")
def test_a_folder_that_nobody_can_write_to_is_refused(source: Path, tmp_path: Path) -> None:
    assert "cannot be written" in refused(source, Path("/proc/out.onnx"), tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refused(source, tmp_path / "locked" / "out.onnx", tmp_path)


def test_a_name_that_is_too_long_is_refused(source: Path, tmp_path: Path) -> None:
    assert "cannot be written" in refused(source, tmp_path / ("n" * 300), tmp_path)


def test_a_name_that_leaves_no_room_for_a_temporary_one_is_refused(
    source: Path, tmp_path: Path
) -> None:
    assert "cannot be written" in refused(source, tmp_path / ("n" * 255), tmp_path)


def test_a_folder_where_the_data_file_belongs_is_refused(tmp_path: Path) -> None:
    source = write_external(conv_net(), tmp_path / "in.onnx", lambda name: name)
    (tmp_path / "out.onnx").write_bytes(b"old")
    (tmp_path / "out.onnx.conv1.w").write_bytes(b"old weights")
    (tmp_path / "out.onnx.fc.w").mkdir()
    assert "is a directory" in refused(source, tmp_path / "out.onnx", tmp_path)


@pytest.mark.parametrize("place", [None, lambda _: "net.bin"], ids=["inside", "external"])
def test_a_check_that_fails_leaves_no_file_behind(
    place: Callable[[str], str] | None, tmp_path: Path
) -> None:
    path = write_external(conv_net(), tmp_path / "in.onnx", place or (lambda _: None))
    (tmp_path / "out.onnx").write_bytes(b"old")
    (tmp_path / "out.onnx.data").write_bytes(b"old weights")
    model = onnx_scsp.load(path)
    cut = onnx_scsp.apply_plan(model, onnx_scsp.make_plan(model, HALF))
    before = listing(tmp_path)

    def fail(_path: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        onnx_scsp.save(cut, tmp_path / "out.onnx", check=fail)
    assert listing(tmp_path) == before


def test_the_check_sees_the_finished_file_before_the_output_exists(
    source: Path, tmp_path: Path
) -> None:
    seen = []

    def look(path: Path) -> None:
        seen.append((onnx_scsp.load(path).proto.graph.name, (tmp_path / "out.onnx").exists()))

    onnx_scsp.save(onnx_scsp.load(source), tmp_path / "out.onnx", check=look)
    assert seen == [("net", False)]


def test_a_write_that_fails_half_way_leaves_the_old_output(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    assert "No space left" in refused(source, tmp_path / "out.onnx", tmp_path)


def test_a_success_leaves_no_temporary_file(source: Path, tmp_path: Path) -> None:
    onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    assert sorted(listing(tmp_path)) == ["in.onnx", "out.onnx"]


def test_an_existing_output_is_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")
    onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    assert onnx_scsp.load(tmp_path / "out.onnx").proto.graph.name == "net"


def test_the_output_gets_the_permissions_that_the_umask_leaves(
    source: Path, tmp_path: Path
) -> None:
    previous = os.umask(0o027)
    try:
        onnx_scsp.save(onnx_scsp.load(source), tmp_path / "out.onnx")
    finally:
        os.umask(previous)
    assert (tmp_path / "out.onnx").stat().st_mode & 0o777 == 0o640


def test_text_goes_to_no_directory(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_text("text", tmp_path / "plan")
    assert sorted(listing(tmp_path)) == ["plan"]


def test_text_goes_to_no_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_text("text", tmp_path / "absent" / "plan.json")


def test_text_replaces_a_file_whole(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("a much longer text than the new one", encoding="utf-8")
    write_text("new", tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text(encoding="utf-8") == "new"
