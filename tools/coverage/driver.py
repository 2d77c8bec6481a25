"""Runs tasks one after another, each in a process of its own, and keeps their records."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.child import Child
from tools.coverage.catalog import Network
from tools.records import Record, append, read_lines
from tools.snapshot import snapshot, versions

Key = tuple[str, str, str]
RATIO = 0.5
"""Share of channels that every tool is asked to keep."""
WORSE = 0.02
"""From this much more of the MACs left, the page asks why."""


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

    def measure(
        self,
        net: Network,
        variant: str,
        tool: str,
        *,
        again: bool = False,
        ratio: float = RATIO,
    ) -> Record:
        """Runs one task unless its record is there.

        Args:
            net: The network.
            variant: The exported variant.
            tool: `export`, `probe`, `ours`, `approximate`, `equal`, `tp` or `onnxsim`.
            again: Whether to run it even so.
            ratio: Share of channels that onnx_scsp is asked to keep.

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
                "ratio": ratio,
            }
            found = self._child.run(task, Path(scratch), "-".join(key))
        record = {"network": key[0], "variant": variant, "tool": tool, **found}
        record |= {"source": net.source, "versions": self._versions, "limit": self.limit}
        self.records[key] = record
        append(self.folder / "records.jsonl", record)
        print(_line(record), flush=True)
        return record


def _line(record: Record) -> str:
    share = record.get("macs_left")
    left = "" if share is None else f" {share:.3f} of the MACs"
    error = f" {record['error']}" if record.get("error") else ""
    name = " ".join(key_of(record))
    return f"{name}: {record['outcome']}{left} in {record['seconds']:.0f} s{error[:160]}"
