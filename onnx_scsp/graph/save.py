"""Writing a model: all or nothing, external data beside it, existing files untouched on failure."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from onnx_scsp.errors import OutputError
from onnx_scsp.graph.load import tensors_of
from onnx_scsp.graph.model import Model, external_entries, is_external

_PAGE_BYTES = 4096


def check_output(model: Model, path: Path) -> None:
    """Refuses an output path before any work is done.

    Args:
        model: The input model.
        path: Where the result shall go.

    Raises:
        OutputError: The path is the input itself, a directory, or cannot be written.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name the output file")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is no existing folder; create it first")
    if model.path is not None:
        inputs = [model.path, *(model.folder / location for location in model.external_files)]
        if any(path.exists() and file.exists() and path.samefile(file) for file in inputs):
            raise OutputError(f"{path} is the input model itself; choose another output name")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} cannot be written; check the permissions of the folder")


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
        for source, final in moves:
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, final)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return total_bytes


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Writes a text file atomically.

    Raises:
        OutputError: The file cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
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
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / location)
    if final.exists() and final.samefile(source):
        return
    if final.exists() and final.read_bytes() != source.read_bytes():
        raise OutputError(f"{final} exists and is another file; choose another output folder")
    moves.append((folder / location, final))


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _data_names(model: Model, target: Path) -> dict[str, str]:
    """Original external location -> name of the new data file."""
    if len(model.external_files) == 1:
        return {model.external_files[0]: f"{target.name}.data"}
    return {location: f"{target.name}.{Path(location).name}" for location in model.external_files}


def _write_external(
    proto: onnx.ModelProto, model: Model, folder: Path, names: dict[str, str]
) -> None:
    """Streams every external tensor to its new file, in the order and alignment of the old one."""
    tensors = [t for t in tensors_of(proto) if external_entries(t).get("location") in names]
    aligned = all(
        int(external_entries(t).get("offset", 0)) % _PAGE_BYTES == 0
        for t in tensors_of(model.proto)
        if is_external(t)
    )
    streams = {location: (folder / name).open("wb") for location, name in names.items()}
    try:
        for tensor in tensors:
            entries = external_entries(tensor)
            stream = streams[entries["location"]]
            if aligned and len(tensors) > 1:
                stream.write(b"\0" * (-stream.tell() % _PAGE_BYTES))
            offset = stream.tell()
            if is_external(tensor):
                _stream_bytes(model.folder / entries["location"], entries, stream)
            else:
                stream.write(tensor.raw_data)
                tensor.ClearField("raw_data")
            _set_location(tensor, names[entries["location"]], offset, stream.tell() - offset)
    finally:
        for stream in streams.values():
            stream.close()


def _stream_bytes(source: Path, entries: dict[str, str], target: object) -> None:
    length = int(entries.get("length", 0)) or source.stat().st_size - int(entries.get("offset", 0))
    with source.open("rb") as stream:
        stream.seek(int(entries.get("offset", 0)))
        while length > 0:
            chunk = stream.read(min(length, 1 << 22))
            if not chunk:
                raise OutputError(f"{source} ended early while its tensors were copied")
            target.write(chunk)  # type: ignore[attr-defined]
            length -= len(chunk)


def _set_location(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
