"""Runs jobs one after another and keeps their records; what has one is not run again."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.child import Child
from tools.records import Record, append, read_lines
from tools.retraining.catalog import ENTRIES, Entry, Setting, network_file
from tools.retraining.images import load_images

ROOT = Path(__file__).resolve().parents[2]
Key = tuple[str, str, str, float, int, int, int]


def key_of(record: Record) -> Key:
    """What a record is about: setting, network, method, budget, seed, images, epochs."""
    return (
        record["setting"],
        record["network"],
        record["method"],
        float(record["budget"]),
        int(record["seed"]),
        int(record["images"]),
        int(record["epoch_count"]),
    )


def read_records(path: Path) -> dict[Key, Record]:
    """The newest record of every run."""
    return {key_of(record): record for record in read_lines(path)}


@dataclass
class Bench:
    """A cache folder, and how to run into it.

    Attributes:
        data: Folder of the images and networks.
        trained: Folder of the networks of our own training.
        cache: Where results go.
        setting: How long, on what.
        accelerator: `cpu`, `cuda`, `auto`.
        threads: Threads of PyTorch on the CPU.
        precision: `32`, or `bf16` for mixed precision.
        limit_s: Seconds that one run may take.
        again: Try again what failed.
    """

    data: Path
    trained: Path
    cache: Path
    setting: Setting
    accelerator: str = "auto"
    threads: int = 2
    precision: str = "32"
    limit_s: float = 7200.0
    again: bool = False
    records: dict[Key, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        (self.cache / ".gitignore").write_text("*\n")
        self.file = self.cache / "records.jsonl"
        self.records = read_records(self.file)

    def run_all(self, names: tuple[str, ...] = ()) -> None:
        """Every run of the setting that has no record yet."""
        wanted = names or self.setting.entries or tuple(entry.name for entry in ENTRIES)
        for network in self.setting.networks:
            for budget in self.setting.budgets:
                for seed in self.setting.seeds:
                    for entry in ENTRIES:
                        if entry.name in wanted:
                            self.run(entry, network, budget, seed)

    def run(self, entry: Entry, network: str, budget: float, seed: int) -> Record:
        """One run, unless its record is there."""
        head = {
            "setting": self.setting.name,
            "network": network,
            "method": entry.name,
            "budget": budget,
            "seed": seed,
            "images": self.setting.images,
            "epoch_count": self.setting.epochs,
        }
        known = self.records.get(key_of(head))
        if known is not None and (known["outcome"] == "ok" or not self.again):
            return known
        record = head | self._run(entry, head)
        self._keep(record)
        print(line(record), flush=True)
        return record

    def _keep(self, record: Record) -> None:
        self.records[key_of(record)] = record
        append(self.file, record)

    def _run(self, entry: Entry, head: Record) -> Record:
        words = [head[name] for name in ("setting", "network", "method", "budget", "seed")]
        words += [f"{head['images']}x{head['epoch_count']}"]
        name = "-".join(str(word) for word in words)
        made = self.cache / "networks" / f"{name}.onnx"
        made.parent.mkdir(exist_ok=True)
        job = head | {
            "entry": asdict(entry),
            "setting": asdict(self.setting),
            "data": str(self.data),
            "model": str(network_file(head["network"], self.data, self.trained)),
            "cache": str(self.cache),
            "made": str(made),
            "accelerator": self.accelerator,
            "threads": self.threads,
            "precision": self.precision,
        }
        logs = self.cache / "logs"
        child = Child("tools.retraining.job", [ROOT], logs, self.limit_s, self.threads)
        with tempfile.TemporaryDirectory(prefix="retrain_", dir=self.cache) as scratch:
            found = child.run(job, Path(scratch), name)
        if found.get("outcome") == "crashed":
            last = (logs / f"{name}.log").read_text().strip().splitlines()[-1:]
            return found | {"outcome": "failed", "error": last[0] if last else found["error"]}
        return {"outcome": "ok", "made": str(made), **found}

    def measure(self) -> None:
        """Top-1 of every network on the last 5,000 images, which nothing else has looked at."""
        from tools.retraining.job import measure

        images, labels = load_images(self.data, self.cache, "report", 0)
        for network in self.setting.networks:
            key = ("dense", network, "dense", 1.0, 0, 0, 0)
            if key not in self.records:
                path = network_file(network, self.data, self.trained)
                self._keep(
                    dict(zip(("setting", "network", "method", "budget", "seed", "images",
                              "epoch_count"), key, strict=True))
                    | {"outcome": "ok", "macs_left": 1.0, "report": measure(path, images, labels)}
                )  # fmt: skip
        for record in list(self.records.values()):
            mine = record["setting"] == self.setting.name and record["outcome"] == "ok"
            if mine and "report" not in record and Path(record["made"]).exists():
                found = measure(Path(record["made"]), images, labels)
                self._keep(record | {"report": found})
                print(line(self.records[key_of(record)]), flush=True)


def line(record: Record) -> str:
    """A record in one line."""
    name = f"{record['network']} {record['method']} {record['budget']:g} seed {record['seed']}"
    if record["outcome"] != "ok":
        return f"{name}: {record['outcome']}: {record.get('error', '')[:200]}"
    held = [epoch["metric_cut"] for epoch in record.get("epochs", ())]
    held = [value for value in held if value is not None]
    parts = [f"{record['macs_left']:.3f} of the MACs"]
    parts += [f"held-out by epoch {' '.join(f'{value:.3f}' for value in held)}"] if held else []
    parts += [f"report {record['report']:.2%}"] if "report" in record else []
    return f"{name}: {', '.join(parts)}, {record.get('seconds', 0.0):.0f} s"
