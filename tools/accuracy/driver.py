"""Runs jobs one after another, each in a process of its own, and keeps their records."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from onnx_scsp.measure.machine import machine_record
from tools.accuracy.catalog import DENSE, Method, Sources, Task
from tools.child import Child
from tools.records import Record, append, read_lines
from tools.snapshot import ROOT, snapshot, versions

Key = tuple[str, str, float, str]


def key_of(record: Record) -> Key:
    """What a record is about: network, method, budget, split."""
    return (record["network"], record["method"], float(record["budget"]), record["split"])


def read_records(path: Path) -> dict[Key, Record]:
    """The newest record of every measurement; a last line that a kill cut short is skipped."""
    return {key_of(record): record for record in read_lines(path)}


@dataclass
class Bench:
    """A cache folder, and how to measure into it.

    Attributes:
        sources: The folders.
        limit: Seconds that one job may take.
        split: `tune` or `report`.
        fresh: Prune and measure again what has a record already.
        again: Try again what is known to fail.
        worktree: Measure the package as it lies there, not as committed.
        records: What is known so far.
    """

    sources: Sources
    limit: float
    split: str
    fresh: bool = False
    again: bool = False
    worktree: bool = False
    records: dict[Key, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = Path(self.sources.cache).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n")
        self.records = read_records(self.folder / "records.jsonl")
        code, rev = snapshot(self.folder, worktree=self.worktree)
        self._versions = versions(code, rev)
        # the package from the snapshot
        self._child = Child("tools.accuracy.job", [code, ROOT], self.folder / "logs", self.limit)
        self._machine = machine_record()

    def measure(self, task: Task, method: Method, budget: float) -> Record:
        """Runs one job unless its record is there.

        Args:
            task: The network.
            method: How to prune it.
            budget: Share of the MACs that may remain; 1 for the dense network.

        Returns:
            The record.
        """
        key = (task.name, method.name, budget, self.split)
        known = self.records.get(key)
        if known and not self.fresh and not (self.again and known["outcome"] != "ok"):
            return known
        made = self._made(task, method, budget)
        if known and method.tool != DENSE:  # pruned again, not only measured again
            made.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="accuracy_", dir=self.folder) as scratch:
            job = {
                "task": asdict(task),
                "method": asdict(method),
                "sources": asdict(self.sources),
                "budget": budget,
                "split": self.split,
                "made": str(made),
                "scratch": scratch,
            }
            found = self._child.run(job, Path(scratch), f"{task.name}-{method.name}-{budget:g}")
        record = {"network": task.name, "method": method.name, "budget": budget}
        record |= {"split": self.split, **found, "versions": self._versions, "limit": self.limit}
        record["machine"] = f"{self._machine['processor']}, {self._machine['cores']} cores"
        self.records[key] = record
        append(self.folder / "records.jsonl", record)
        print(_line(record), flush=True)
        return record

    def _made(self, task: Task, method: Method, budget: float) -> Path:
        """The pruned file's place; its name changes with whatever could change the file."""
        if method.tool == DENSE:
            return Path(task.model)
        names = {"ours": ("code",), "tp": ("torch", "torch-pruning")}.get(method.tool, ("onnxsim",))
        words = [method.tool, *method.arguments, *(self._versions[name] for name in names)]
        words.append(hashlib.sha256(Path(task.model).read_bytes()).hexdigest())
        digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
        return self.folder / "pruned" / task.name / f"{method.name}@{budget:g}-{digest}.onnx"


def _line(record: Record) -> str:
    name = f"{record['network']} {record['method']} {record['budget']:g} ({record['split']})"
    if record["outcome"] != "ok":
        return f"{name}: {record['outcome']}: {record.get('error', '')[:200]}"
    figures = ", ".join(f"{metric} {value:.2f}" for metric, value in record["metrics"].items())
    left = record["macs_left"]
    return f"{name}: {left:.3f} of the MACs, {figures}, in {record['seconds']:.0f} s"
