"""Writing a model: all or nothing, external data beside it, existing files untouched on failure."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import BinaryIO

import onnx

from onnx_scsp.errors import OutputError
from onnx_scsp.graph.load import tensors_of
from onnx_scsp.graph.model import Model, byte_count, external_entries, is_external

_PAGE_BYTES = 4096
_CHUNK_BYTES = 1 << 22


def check_output(model: Model, path: Path) -> None:
    """Refuses an output path before any work is done.

    Args:
        model: The input model.
        path: Where the result shall go.

    Raises:
        OutputError: The path is the input itself, a directory, or cannot be written.
    """
    try:
        is_folder, has_parent = path.is_dir(), path.parent.is_dir()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    if is_folder:
        raise OutputError(f"{path} is a directory; name the output file")
    if not has_parent:
        raise OutputError(f"{path.parent} is no existing folder; create it first")
    if _is_input(model, path):
        raise OutputError(f"{path} is the input model itself; choose another output name")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} cannot be written; check the permissions of the folder")


def _is_input(model: Model, path: Path) -> bool:
    """Whether a path is, under whatever name, one of the files that the model was read from."""
    if model.path is None or not path.exists():
        return False
    inputs = [model.path, *(model.folder / location for location in model.external_files)]
    return any(file.exists() and path.samefile(file) for file in inputs)


def save(
    proto: onnx.ModelProto | None,
    model: Model,
    path: str | os.PathLike[str],
    check: Callable[[Path], None] | None = None,
) -> int:
    """Writes a patched model (or an unchanged copy) atomically.

    The files are complete under temporary names in the target folder, and `check` has seen them,
    before the first one takes its final name.

    Args:
        proto: Result of `apply_patch`, or None for a byte-identical copy of `model`'s file.
        model: The model that `proto` was made from.
        path: Output file.
        check: Called with the temporary file; whatever it raises stops the writing.

    Returns:
        Bytes written, external data included.

    Raises:
        OutputError: The output cannot be written.
    """
    target = Path(path)
    check_output(model, target)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    try:
        moves = _write(proto, model, folder, target)
        if check is not None:
            check(folder / target.name)
        total_bytes = sum(source.stat().st_size for source, _ in moves)
        _publish(moves)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return total_bytes


def _publish(moves: list[tuple[Path, Path]]) -> None:
    """Gives all files their final names, or none where one of the names is taken by a folder."""
    for _, final in moves:
        if final.is_dir():
            raise OutputError(f"{final} is a directory; move it away or name another output")
    for source, final in moves:
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, final)


def check_outputs(source: Model, output: Path, plan_out: Path | None) -> None:
    """Refuses output paths before any work is done.

    Raises:
        OutputError: One of them cannot be written, or both name one file.
    """
    check_output(source, output)
    if plan_out is None:
        return
    check_output(source, plan_out)
    same_folder = plan_out.resolve().parent == output.resolve().parent
    is_data = bool(source.external_files) and plan_out.name.startswith(f"{output.name}.")
    if same_folder and (plan_out.name == output.name or is_data):
        raise OutputError(f"{plan_out} is named both for the model and for the plan")


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Writes a text file atomically.

    Raises:
        OutputError: The file cannot be written.
    """
    write_bytes(text.encode("utf-8"), path)


def write_bytes(data: bytes, path: str | os.PathLike[str]) -> None:
    """Writes a file atomically: all of it, or none.

    Raises:
        OutputError: The file cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


def write_variant(proto: onnx.ModelProto, model: Model, folder: Path) -> Path:
    """Writes a changed copy of a model, with its external data, into a scratch folder.

    Args:
        proto: The changed proto.
        model: The model it was made from.
        folder: An existing, empty folder.

    Returns:
        Path of the written model.
    """
    main = folder / "variant.onnx"
    _write(proto, model, folder, main)
    return main


def _write(
    proto: onnx.ModelProto | None, model: Model, folder: Path, target: Path
) -> list[tuple[Path, Path]]:
    """Writes the files into the temporary folder; returns (temporary, final), the model last."""
    moves: list[tuple[Path, Path]] = []
    main = folder / target.name
    if proto is None:
        for location in model.external_files:
            _copy_beside(model, location, folder, target, moves)
        if model.path is not None:
            shutil.copyfile(model.path, main)
        else:
            main.write_bytes(model.proto.SerializeToString())
    else:
        names = _data_names(model, target)
        if names:
            copy = onnx.ModelProto()
            copy.CopyFrom(proto)
            _write_external(copy, model, folder, names)
            proto = copy
            moves.extend(
                (folder / name, target.parent / name)
                for name in names.values()
                if (folder / name).exists()
            )
        main.write_bytes(proto.SerializeToString())
    mode = 0o666 & ~_umask()
    main.chmod(mode)
    return [*moves, (main, target)]


def _copy_beside(
    model: Model, location: str, folder: Path, target: Path, moves: list[tuple[Path, Path]]
) -> None:
    """An unchanged model keeps its locations, so its data files go along under the same names."""
    source, final = model.folder / location, target.parent / location
    if final == target:
        raise OutputError(f"{target} is the name of the model's data file; choose another name")
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / location)
    if final.exists() and final.samefile(source):
        return
    if final.exists() and not filecmp.cmp(source, final, shallow=False):
        raise OutputError(f"{final} exists and is another file; choose another output folder")
    moves.append((folder / location, final))


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _data_names(model: Model, target: Path) -> dict[str, str]:
    """Original external location -> name of the new data file; never one of the input's files."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for location in model.external_files:
        suffix = "data" if len(model.external_files) == 1 else Path(location).name
        stem = f"{target.name}.{suffix}"
        for number in count():
            name = f"{stem}.{number}" if number else stem
            if name not in taken and not _is_input(model, target.parent / name):
                break
        taken.add(name)
        names[location] = name
    return names


def _write_external(
    proto: onnx.ModelProto, model: Model, folder: Path, names: dict[str, str]
) -> None:
    """Streams every external tensor to its new file, one file after the other.

    Tensors come in the order of the proto; where all of a file's tensors began on a page, they do
    so again.
    """
    aligned = dict.fromkeys(names, True)
    for tensor in tensors_of(model.proto):
        if is_external(tensor):
            entries = external_entries(tensor)
            aligned[entries["location"]] &= int(entries.get("offset", 0)) % _PAGE_BYTES == 0
    by_location: dict[str, list[onnx.TensorProto]] = {}
    for tensor in tensors_of(proto):
        location = external_entries(tensor).get("location", "")
        if location in names:
            by_location.setdefault(location, []).append(tensor)
    for location, tensors in by_location.items():
        with (folder / names[location]).open("wb") as stream:
            for tensor in tensors:
                if aligned[location]:
                    stream.write(b"\0" * (-stream.tell() % _PAGE_BYTES))
                _move_out(tensor, model.folder / location, names[location], stream)


def _move_out(tensor: onnx.TensorProto, source: Path, name: str, stream: BinaryIO) -> None:
    """Appends a tensor's bytes to a data file and makes the tensor point to them."""
    offset = stream.tell()
    entries = external_entries(tensor)
    if is_external(tensor):
        _stream_bytes(source, int(entries.get("offset", 0)), byte_count(tensor), stream)
    else:
        stream.write(tensor.raw_data)
        tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("external_data")
    length = stream.tell() - offset
    entries |= {"location": name, "offset": str(offset), "length": str(length)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _stream_bytes(source: Path, offset: int, length: int, target: BinaryIO) -> None:
    with source.open("rb") as stream:
        stream.seek(offset)
        while length > 0:
            chunk = stream.read(min(length, _CHUNK_BYTES))
            if not chunk:
                raise OutputError(f"{source} ended early while its tensors were copied")
            target.write(chunk)
            length -= len(chunk)
