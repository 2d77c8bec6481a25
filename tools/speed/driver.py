"""Runs the stages, each task in a process of its own, and keeps their records."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import floor
from pathlib import Path
from typing import Any

from onnx_scsp.measure.machine import machine_record
from tools.child import Child
from tools.coverage.catalog import Network
from tools.records import Record, append, read_lines
from tools.snapshot import ROOT, snapshot, versions
from tools.speed.catalog import BUDGET, DENSE, Variant

Key = tuple[str, str, str]


def key_of(record: Record) -> Key:
    """What a record is about: stage, network, and the variant, thread count or tool."""
    return (record["stage"], record["network"], record["what"])


def read_records(path: Path) -> dict[Key, Record]:
    """The newest record of every measurement."""
    return {key_of(record): record for record in read_lines(path)}


@dataclass
class Bench:
    """A cache folder, and how to measure into it.

    Attributes:
        folder: The cache: files, records, logs, a snapshot of the code.
        limit: Seconds that one task may take.
        fresh: Measure again what has a record; files are kept.
        again: Try again what is known to fail.
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
        (self.folder / ".gitignore").write_text("*\n")
        self.records = read_records(self.folder / "records.jsonl")
        self.code, rev = snapshot(self.folder, worktree=self.worktree)
        self.versions = versions(self.code, rev)
        # the package from the snapshot
        logs = self.folder / "logs"
        self._child = Child("tools.speed.job", [self.code, ROOT], logs, self.limit)
        machine = machine_record()
        self._machine = f"{machine['processor']}, {machine['cores']} cores"

    def dense(self, net: Network) -> Path:
        """A network's exported file."""
        return self.folder / "zoo" / f"{net.name}.onnx"

    def pruned(self, net: Network, variant: Variant) -> Path:
        """A pruned file's place; its name changes with whatever could change the file."""
        parts = {"ours": ("code",), "tp": ("torch", "torch-pruning"), "onnxsim": ("onnxsim",)}
        words = [variant.tool, *variant.arguments, f"{self.budget(net, variant) or BUDGET:g}"]
        words += [self.versions[name] for name in parts[variant.tool]]
        words.append(hashlib.sha256(self.dense(net).read_bytes()).hexdigest())
        digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
        return self.folder / "pruned" / net.label / f"{variant.name}-{digest}.onnx"

    def budget(self, net: Network, variant: Variant) -> float | None:
        """Share of the MACs that may remain; None where the rival that says it has no result."""
        if not variant.like:
            return BUDGET
        share = self.records.get(("prune", net.label, variant.like), {}).get("macs_left")
        return None if share is None else floor(share * 1e4) / 1e4

    def export(self, net: Network) -> bool:
        """Makes sure that a network's file is there."""
        path = self.dense(net)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            task = {"network": asdict(net), "file": str(path)}
            self.keep("export", net.label, DENSE, self._run("export", net, DENSE, task))
        return path.exists()

    def prune(self, net: Network, variant: Variant) -> None:
        """Makes sure that a pruned file is there, unless it is known to fail."""
        budget = self.budget(net, variant)
        if budget is None:
            return
        path = self.pruned(net, variant)
        known = self.records.get(("prune", net.label, variant.name))
        same = known is not None and known.get("file") == path.name
        lost = known is not None and known["outcome"] == "ok" and not path.exists()
        if same and known is not None and not lost and not self._retry(known):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        task = {
            "network": asdict(net),
            "variant": asdict(variant),
            "dense": str(self.dense(net)),
            "budget": budget,
            "file": str(path),
        }
        found = self._run("prune", net, variant.name, task)
        self.keep("prune", net.label, variant.name, {**found, "file": path.name})

    def time(self, net: Network, chosen: Sequence[Variant], threads: int, rounds: int) -> None:
        """Times all files of a network that are there, unless that was done with the same files."""
        files = {DENSE: str(self.dense(net))}
        for variant in chosen:
            path = self.pruned(net, variant)
            known = self.records.get(("prune", net.label, variant.name))
            if known is not None and known["outcome"] == "ok" and path.exists():
                files[variant.name] = str(path)
        names = {name: Path(path).name for name, path in files.items()}
        known = self.records.get(("time", net.label, str(threads)))
        same = known is not None and (known["files"], known["rounds"]) == (names, rounds)
        if same and known is not None and not self.fresh and not self._retry(known):
            return
        task = {"files": files, "threads": threads, "rounds": rounds}
        found = self._run("time", net, str(threads), task)
        self.keep("time", net.label, str(threads), {**found, "files": names, "rounds": rounds})

    def _retry(self, known: Record) -> bool:
        """Whether something that failed is to be tried again."""
        return self.again and known["outcome"] != "ok"

    def _run(self, stage: str, net: Network, what: str, task: dict[str, Any]) -> Record:
        with tempfile.TemporaryDirectory(prefix="speed_", dir=self.folder) as scratch:
            task = {**task, "stage": stage, "scratch": scratch}
            return self._child.run(task, Path(scratch), f"{stage}-{net.label}-{what}")

    def keep(self, stage: str, network: str, what: str, found: Record) -> None:
        """Adds a record and says so."""
        record = {"stage": stage, "network": network, "what": what, **found}
        record |= {"versions": self.versions, "machine": self._machine}
        self.records[key_of(record)] = record
        append(self.folder / "records.jsonl", record)
        left = f" {record['macs_left']:.3f} of the MACs" if "macs_left" in record else ""
        error = f" {record['error'][:200]}" if "error" in record else ""
        spent = f" in {record['seconds']:.0f} s" if isinstance(record.get("seconds"), float) else ""
        print(f"{stage} {network} {what}: {record['outcome']}{left}{spent}{error}", flush=True)
