"""Which state of the code and of the packages a benchmark measures."""

from __future__ import annotations

import compileall
import hashlib
import io
import subprocess
import tarfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "torch-pruning", "onnxsim", "pytorchcv")


def snapshot(folder: Path, *, worktree: bool) -> tuple[Path, str]:
    """Copies the code that is measured, so that one run measures one state of it.

    Args:
        folder: The cache.
        worktree: Take the package as it lies there, not as committed.

    Returns:
        The folder of the copy, and the revision's name.
    """
    rev = _git("rev-parse", "--short", "HEAD") or "unknown"
    committed = {} if worktree else _committed()
    if not committed:
        rev += " + changes" if _git("status", "--porcelain", "onnx_scsp") else ""
    files = committed or _bytes("onnx_scsp")
    files |= _bytes("tools/coverage") | _bytes("tools", "modules.py")
    target = folder / "code" / _digest(files)
    for name, content in files.items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    compileall.compile_dir(target, quiet=1)  # as what an installer puts in place is
    return target, rev


def _bytes(part: str, names: str = "*.py") -> dict[str, bytes]:
    return {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in sorted((ROOT / part).rglob(names))
    }


def _committed() -> dict[str, bytes]:
    """The package at HEAD; empty where there is no git."""
    try:
        done = subprocess.run(
            ["git", "archive", "HEAD", "onnx_scsp"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive]
        return {name: found.read() for name, found in members if found is not None}


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + files[name])
    return digest.hexdigest()[:12]


def versions(code: Path, rev: str) -> dict[str, str]:
    """What takes part: packages, revision, and a hash of the package's code as it is run."""
    found = {"rev": rev}
    found |= {name: _version(name) for name in PACKAGES}
    package = sorted((code / "onnx_scsp").rglob("*.py"))
    found["code"] = _digest(
        {path.relative_to(code).as_posix(): path.read_bytes() for path in package}
    )
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
