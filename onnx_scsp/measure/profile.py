"""Where the time of two models goes, by operator type and by layer, from the runtime's profile.

The runtime rewrites a graph before it runs it: it fuses, and it puts layout changes around what it
has fast kernels for. A kernel is put down to the layer of the file that it came from where its name
says so, so that a layer keeps its row when its width makes the runtime choose another kernel.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import end_profile, open_session, run_session
from onnx_scsp.graph.view import GraphView, NodeView, view
from onnx_scsp.measure.records import Profile, Share
from onnx_scsp.measure.subject import Subject

_RUNS = 20
_WARM_UP = 5
_KERNEL, _BLOCKED, _FUSED = "_kernel_time", "_nchwc", "fused "
"""What the runtime adds to names: every kernel's, one's on a blocked layout, a fused one's."""

_NUMBERED = re.compile(r"(_\d+)+$")
"""Subgraphs that a provider runs as one kernel are numbered through all sessions of a process."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One node of the graph that the runtime runs.

    Attributes:
        name: Its name there.
        op: Its operator type.
        spent_ms: Median over runs of the time it takes in one.
        count: How often a run calls it.
    """

    name: str
    op: str
    spent_ms: float
    count: int


def profile(subject: Subject, *, threads: int, provider: str) -> Profile:
    """Profiles both models in turn.

    Args:
        subject: Models and inputs.
        threads: Intra-op threads.
        provider: Execution provider.

    Returns:
        Times by operator type and by layer.

    Raises:
        ModelError: A model cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
        sessions = [
            open_session(
                source, threads=threads, provider=provider, profile=Path(folder) / f"profile{side}"
            )
            for side, source in enumerate(subject.sources)
        ]
        for _ in range(_WARM_UP + _RUNS):
            for session in sessions:
                run_session(session, subject.feeds)
        events = [json.loads(end_profile(s).read_text(encoding="utf-8")) for s in sessions]
    a, b = (kernel_times(found, _WARM_UP) for found in events)
    first, second = subject.models
    return Profile(
        operators=_shares([(k.op, k) for k in a], [(k.op, k) for k in b]),
        layers=_shares(by_layer(a, first), by_layer(b, second)),
        runs=_RUNS,
    )


def kernel_times(events: Iterable[Mapping[str, Any]], skip: int) -> tuple[Kernel, ...]:
    """Median time per run of every kernel.

    Args:
        events: The runtime's profile.
        skip: Runs at its beginning that do not count.

    Returns:
        The kernels, in the order in which they first ran.

    Raises:
        ModelError: The profile holds no run that counts.
    """
    listed = list(events)
    starts = sorted(event["ts"] for event in listed if event["name"] == "model_run")
    n_runs = len(starts) - skip
    if n_runs < 1:
        raise ModelError("onnxruntime wrote no profile of the runs")
    spent: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for event in listed:
        if event.get("cat") != "Node" or not event["name"].endswith(_KERNEL):
            continue
        run = int(np.searchsorted(starts, event["ts"], side="right")) - 1
        if run >= skip:
            op = _NUMBERED.sub("", event["args"].get("op_name", ""))
            key = (event["name"].removesuffix(_KERNEL), op)
            spent[key][run].append(event["dur"] / 1e3)
    found = []
    for (name, op), runs in spent.items():
        # in a run where it was not called, it took no time
        sums = [sum(times) for times in runs.values()] + [0.0] * (n_runs - len(runs))
        most = max(len(times) for times in runs.values())
        found.append(Kernel(name, op, float(np.median(sums)), most))
    return tuple(found)


def by_layer(kernels: Iterable[Kernel], model: Model) -> list[tuple[str, Kernel]]:
    """Puts every kernel down to a layer.

    Args:
        kernels: What ran.
        model: The model that ran.

    Returns:
        (name of the file's node whose operator it runs, or the kernel's own name where that cannot
        be told, kernel).
    """
    graph = view(model.proto)
    named = {node.name: node for node in graph.nodes}
    return [(_layer(kernel, graph, named), kernel) for kernel in kernels]


def _layer(kernel: Kernel, graph: GraphView, named: Mapping[str, NodeView]) -> str:
    name = kernel.name.removesuffix(_BLOCKED).removeprefix(_FUSED)
    node = named.get(name) or graph.producers.get(name)
    if node is None:
        return _NUMBERED.sub("", name)
    for before in _upstream(node, graph):
        if kernel.op.endswith(before.op_type):  # FusedConv runs a Conv
            return before.name
    return name


def _upstream(node: NodeView, graph: GraphView) -> Iterator[NodeView]:
    """A node and what feeds it, back to where several do."""
    while True:
        yield node
        feeders = [graph.producers[name] for name in node.inputs if name in graph.producers]
        feeders = [feeder for feeder in feeders if feeder.op_type != "Constant"]
        if len(feeders) != 1:
            return
        node = feeders[0]


def _shares(a: Sequence[tuple[str, Kernel]], b: Sequence[tuple[str, Kernel]]) -> tuple[Share, ...]:
    """Sums by name, side by side, what takes longest in either model first."""
    sides: tuple[dict[str, list[Kernel]], ...] = (defaultdict(list), defaultdict(list))
    for side, pairs in zip(sides, (a, b), strict=True):
        for name, kernel in pairs:
            side[name].append(kernel)
    rows = []
    for name in dict.fromkeys(name for name, _ in (*a, *b)):
        first, second = (side.get(name, []) for side in sides)
        rows.append(
            Share(
                name=name,
                op="/".join(dict.fromkeys(kernel.op for kernel in (*first, *second))),
                a_ms=sum(kernel.spent_ms for kernel in first),
                b_ms=sum(kernel.spent_ms for kernel in second),
                a_count=sum(kernel.count for kernel in first),
                b_count=sum(kernel.count for kernel in second),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-max(row.a_ms, row.b_ms), row.name)))
