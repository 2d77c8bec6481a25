"""Runs tasks one after another, each in a process of its own, and keeps their records."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from tools.child import Child
from tools.coverage.catalog import Network
from tools.records import Record, append, read_lines

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "torch-pruning", "onnxsim", "pytorchcv")
Key = tuple[str, str, str]


def key_of(record: Record) -> Key:
    """What a record is about: network, variant, tool."""
    return (record["network"], record["variant"], record["tool"])


def read_records(path: Path) -> dict[Key, Record]:
    """The newest record of every measurement."""
    return {key_of(record): record for record in read_lines(path)}


@dataclass
class Bench:
    """A cache folder, and how to measure into it.

    Attributes:
        folder: The cache: exported files, records, logs, a snapshot of the code.
        limit: Seconds that one task may take.
        fresh: Measure again what has a record already.
        again: Try exports again that are known to fail.
        worktree: Measure the package as it lies there, not as committed.
        records: What is known so far.
    """

    folder: Path
    limit: float
    fresh: bool = False
    again: bool = False
    worktree: bool = False
    records: dict[Key, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n")  # gigabytes that nobody should commit
        self.records = read_records(self.folder / "records.jsonl")
        code, rev = snapshot(self.folder, worktree=self.worktree)
        self._versions = versions(code, rev)
        self._child = Child("tools.coverage.job", [code], self.folder / "logs", self.limit)

    def file(self, net: Network, variant: str) -> Path:
        """Where a network's file lies."""
        return Path(net.file) if net.file else self.folder / "zoo" / f"{net.name}.{variant}.onnx"

    def ensure(self, net: Network, variant: str) -> bool:
        """Exports a network unless its file is there or its export is known to fail."""
        path = self.file(net, variant)
        if path.exists():
            return True
        path.parent.mkdir(exist_ok=True)
        known = self.records.get((net.label, variant, "export"))
        if known is not None and known["outcome"] != "ok" and not self.again:
            return False
        return bool(self.measure(net, variant, "export", again=True)["outcome"] == "ok")

    def measure(self, net: Network, variant: str, tool: str, *, again: bool = False) -> Record:
        """Runs one task unless its record is there.

        Args:
            net: The network.
            variant: The exported variant.
            tool: `export`, `probe`, `ours`, `tp` or `onnxsim`.
            again: Whether to run it even so.

        Returns:
            The record.
        """
        key = (net.label, variant, tool)
        if key in self.records and not (again or self.fresh):
            return self.records[key]
        with tempfile.TemporaryDirectory(prefix="coverage_", dir=self.folder) as scratch:
            task = {
                "tool": tool,
                "network": asdict(net),
                "variant": variant,
                "file": str(self.file(net, variant).resolve()),
                "scratch": scratch,
            }
            found = self._child.run(task, Path(scratch), "-".join(key))
        record = {"network": key[0], "variant": variant, "tool": tool, **found}
        record |= {"source": net.source, "versions": self._versions, "limit": self.limit}
        self.records[key] = record
        append(self.folder / "records.jsonl", record)
        print(_line(record), flush=True)
        return record


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


def _line(record: Record) -> str:
    share = record.get("macs_left")
    left = "" if share is None else f" {share:.3f} of the MACs"
    error = f" {record['error']}" if record.get("error") else ""
    name = " ".join(key_of(record))
    return f"{name}: {record['outcome']}{left} in {record['seconds']:.0f} s{error[:160]}"
