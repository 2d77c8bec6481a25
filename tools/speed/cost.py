"""What pruning costs: wall time and peak memory of whole processes, in turn, and as models grow.

Peak memory is the largest resident set of a process or of one that it waited for (`launch`).
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.child import POOLS, wait_or_kill
from tools.records import Record
from tools.snapshot import ROOT
from tools.speed.catalog import BUDGET, NETWORKS
from tools.speed.driver import Bench

HERE = Path(__file__).resolve().parent
COSTED = ("resnet18", "resnet50", "mobilenet_v2")
GATED = "ours-gated"
"""Ours with the measuring that keeps a slower model from being written."""
SHARE = "0.3"
"""Of the channels that the rivals take away: about half of the MACs."""


@dataclass(frozen=True)
class Grown:
    """A synthetic network.

    Attributes:
        name: On the page.
        depth: Residual blocks, six nodes each.
        width: Channels.
        kernel: Side of the convolutions.
        external: Whether its weights lie in a file beside it.
    """

    name: str
    depth: int
    width: int
    kernel: int
    external: bool = False

    @property
    def nodes(self) -> int:
        """Nodes of the graph."""
        return 6 * self.depth + 4

    @property
    def params(self) -> int:
        """Weights of the convolutions."""
        return 2 * self.depth * self.width**2 * self.kernel**2


GROWN = (
    Grown("nodes x1", 104, 32, 1),
    Grown("nodes x4", 416, 32, 1),
    Grown("nodes x16", 1664, 32, 1),
    Grown("parameters x1", 16, 64, 3),
    Grown("parameters x4", 16, 128, 3),
    Grown("parameters x16", 16, 256, 3),
)
BIG = Grown("3 GB, external data", 40, 1024, 3, external=True)


def measure_all(bench: Bench, names: tuple[str, ...], *, repeats: int, big: bool) -> None:
    """Every process that has no record yet.

    Args:
        bench: The cache.
        names: Networks; all where empty.
        repeats: How often each process runs; the grown networks run once.
        big: Whether to run the model of 3 GB.
    """
    for net in NETWORKS:
        if net.label not in COSTED or (names and not {net.name, net.label} & set(names)):
            continue
        if not bench.export(net):
            continue
        weights = bench.folder / "zoo" / f"{net.name}.pt"
        torch = [sys.executable, str(HERE / "with_torch.py"), net.name, str(weights)]
        if not weights.exists():
            subprocess.run([*torch, "--save"], check=True)
        commands = _file_commands(bench.dense(net)) | {
            GATED: _ours(bench.dense(net)),
            "tp": [*torch, "{out}", SHARE],
        }
        _measure(bench, net.label, commands, repeats)
    for grown in (*GROWN, *((BIG,) if big else ())):
        if names and grown.name not in names:
            continue
        path = bench.folder / "grown" / f"{grown.name.replace(' ', '_').replace(',', '')}.onnx"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            _write(grown, path)
        commands = _file_commands(path)
        if grown.external:
            del commands["onnxsim"]  # it builds one message of the whole model, which is too big
        _measure(bench, grown.name, commands, 1)


def _write(grown: Grown, path: Path) -> None:
    """In a process of its own: its memory is not ours."""
    sizes = [str(size) for size in (grown.depth, grown.width, grown.kernel)]
    words = [*sizes, str(path), *(["--external"] if grown.external else [])]
    subprocess.run([sys.executable, "-m", "tools.speed.grown", *words], cwd=ROOT, check=True)


def _ours(path: Path) -> list[str]:
    command = [sys.executable, "-m", "onnx_scsp.cli.app", "prune", str(path), "-o", "{out}"]
    return [*command, "--macs", f"{BUDGET:g}", "--no-synthetic"]


def _file_commands(path: Path) -> dict[str, list[str]]:
    return {
        "ours": [*_ours(path), "--no-gate"],  # no rival times what it has made
        "onnxsim": [sys.executable, str(HERE / "with_onnxsim.py"), str(path), "{out}", SHARE],
    }


def _measure(bench: Bench, network: str, commands: dict[str, list[str]], repeats: int) -> None:
    """Runs the commands in turn, in random order."""
    todo = {tool: words for tool, words in commands.items() if _is_due(bench, network, tool)}
    found: dict[str, list[Record]] = {tool: [] for tool in todo}
    order = random.Random(0)
    env = {**os.environ, "PYTHONPATH": str(bench.code)}
    env = {name: value for name, value in env.items() if name[:-12] not in POOLS}
    (bench.folder / "logs").mkdir(exist_ok=True)
    for _ in range(repeats):
        for tool in order.sample(sorted(todo), len(todo)):
            if any(record["outcome"] != "ok" for record in found[tool]):
                continue
            log = bench.folder / "logs" / f"cost-{network}-{tool}.log"
            with tempfile.TemporaryDirectory(prefix="cost_", dir=bench.folder) as scratch:
                out = str(Path(scratch) / "out.onnx")
                words = [word.replace("{out}", out) for word in todo[tool]]
                found[tool].append(run_process(words, env, log, bench.limit))
    for tool, records in found.items():
        bench.keep("cost", network, tool, _summary(records))


def _is_due(bench: Bench, network: str, tool: str) -> bool:
    """Rivals stay as they are; ours depends on the code."""
    known = bench.records.get(("cost", network, tool))
    if known is None or bench.fresh or (bench.again and known["outcome"] != "ok"):
        return True
    return tool in ("ours", GATED) and known["versions"]["code"] != bench.versions["code"]


def _summary(records: list[Record]) -> Record:
    failed = [record for record in records if record["outcome"] != "ok"]
    if failed:
        return failed[0]
    return {
        "outcome": "ok",
        "seconds": statistics.median(record["seconds"] for record in records),
        "peak_mb": max(record["peak_mb"] for record in records),
        "runs": [record["seconds"] for record in records],
    }


def run_process(words: list[str], env: Mapping[str, str], log: Path, limit: float) -> Record:
    """One process, from start to end.

    Args:
        words: The command.
        env: Its environment.
        log: Where what it prints goes.
        limit: Seconds after which it is killed with all its children.

    Returns:
        Outcome, seconds, peak_mb, and the last line that it printed where it failed.
    """
    note = log.with_suffix(".json")
    note.unlink(missing_ok=True)
    command = [sys.executable, "-I", "-S", str(HERE / "launch.py"), str(note), *words]
    with log.open("w") as stream:
        child = subprocess.Popen(
            command,
            env=dict(env),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if wait_or_kill(child, limit) is None:
            return {"outcome": "hung", "error": f"no result after {limit:.0f} s", "seconds": limit}
    found: Record = json.loads(note.read_text())
    status = found.pop("status")
    if status:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = lines[-1].strip()[:300] if lines else f"it ended with {status}"
        return {"outcome": "error", "error": said, **found}
    return {"outcome": "ok", **found}
