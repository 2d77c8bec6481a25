"""A graph run piece by piece, so that a layer can be refitted before the rest has been run.

The nodes are cut, in file order, before each of some given nodes. What one piece leaves for later
ones is put aside per batch and taken up again by the next piece: every node runs exactly once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx

from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import InferenceSession, open_variant, run_session
from onnx_scsp.graph.view import GraphView
from onnx_scsp.graph.zeroing import Zeroed, zero_entries
from onnx_scsp.types import AnyArray

Values = dict[str, AnyArray]


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive nodes.

    Attributes:
        start: First node.
        stop: Node after the last.
        inputs: Activations that it takes up.
        outputs: Activations that later segments need of it.
        nodes: Nodes to run, the ones that compute constants included.
        constants: Stored constants that they read.
    """

    start: int
    stop: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[int, ...]
    constants: tuple[str, ...]


def cut_graph(graph: GraphView, constants: Constants, places: Sequence[int]) -> list[Segment]:
    """Cuts the node list before the given nodes.

    Args:
        graph: The graph.
        constants: Its constants.
        places: Node indices, ascending.

    Returns:
        Segments in order; the first one ends before `places[0]` and may be empty.
    """
    last_use: dict[str, int] = {}
    for node in graph.nodes:
        for name in (*node.inputs, *node.captured):
            last_use[name] = max(last_use.get(name, -1), node.index)
    borders = [0, *places, len(graph.nodes)]
    return [_segment(graph, constants, last_use, start, stop) for start, stop in pairwise(borders)]


def _segment(
    graph: GraphView, constants: Constants, last_use: Mapping[str, int], start: int, stop: int
) -> Segment:
    wanted: set[int] = set()
    stored: dict[str, None] = {}
    inputs: dict[str, None] = {}
    made: set[str] = set()
    pending: list[str] = []
    for node in graph.nodes[start:stop]:
        if all(name in constants for name in node.outputs if name) and node.outputs:
            continue
        wanted.add(node.index)
        made |= {name for name in node.outputs if name}
        pending.extend(name for name in (*node.inputs, *node.captured) if name)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or name in made:
            continue
        seen.add(name)
        if name not in constants:
            inputs[name] = None
        elif constants.is_initializer(name):
            stored[name] = None
        else:
            maker = constants.node(name)
            wanted.add(maker.index)
            pending.extend(operand for operand in maker.inputs if operand)
    outputs = tuple(
        name
        for index in sorted(wanted)
        for name in graph.nodes[index].outputs
        if name in made and last_use.get(name, -1) >= stop
    )
    return Segment(
        start, stop, tuple(sorted(inputs)), outputs, tuple(sorted(wanted)), tuple(sorted(stored))
    )


class Runner:
    """Runs one segment with given weights; the session opens at the first batch.

    Where something is `zeroed`, its nodes see zeros for what a cut removes.

    Vectors of whole numbers keep their length: as sizes of a Resize, say, the runtime wants to know
    how many there are. Should one change, the session opens anew.
    """

    def __init__(
        self,
        model: Model,
        segment: Segment,
        extra: Sequence[str],
        proto: onnx.ModelProto,
        threads: int,
        zeroed: Mapping[tuple[str, int], Zeroed] = MappingProxyType({}),
    ) -> None:
        self._model = model
        self._zeroed = zeroed
        self.segment = segment
        self._threads = threads
        self._wanted = list(dict.fromkeys((*segment.outputs, *extra)))
        self._proto = proto
        self._session: InferenceSession | None = None
        self._lengths: dict[str, int] = {}

    def __call__(self, values: Mapping[str, AnyArray]) -> Values:
        """Outputs and extra values of the segment for one batch."""
        if not self.segment.nodes or not self._wanted:
            return {}
        feeds = {name: values[name] for name in self.segment.inputs}
        lengths = {name: len(a) for name, a in feeds.items() if a.ndim == 1 and a.dtype.kind == "i"}
        if self._session is None or lengths != self._lengths:
            self._session, self._lengths = self._open(feeds, lengths), lengths
        return run_session(self._session, feeds, self._wanted)

    def _open(self, feeds: Mapping[str, AnyArray], lengths: Mapping[str, int]) -> InferenceSession:
        graph = self._proto.graph
        part = onnx.ModelProto()
        part.ir_version = self._proto.ir_version
        part.opset_import.extend(self._proto.opset_import)
        part.functions.extend(self._proto.functions)
        part.graph.name = "segment"
        part.graph.node.extend(graph.node[index] for index in self.segment.nodes)
        zero_entries(part, self._zeroed)
        needed = set(self.segment.constants)
        part.graph.initializer.extend(t for t in graph.initializer if t.name in needed)
        for name, array in feeds.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            sizes = [lengths[name]] if name in lengths else [None] * array.ndim
            part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, sizes))
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._wanted)
        if part.ir_version < 4:
            part.ir_version = 4
        with open_variant(part, self._model, threads=self._threads, optimise=True) as session:
            return session


class Shelf:
    """Values put aside between segments, one set per batch; on disk beyond a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._folder = tempfile.TemporaryDirectory(prefix="onnx_scsp_")
        self._batches: list[dict[str, AnyArray | Path]] = []
        self._count = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def __len__(self) -> int:
        return len(self._batches)

    def add_batch(self) -> int:
        """A new, empty batch; returns its number."""
        self._batches.append({})
        return len(self._batches) - 1

    def put(self, batch: int, values: Mapping[str, AnyArray]) -> None:
        """Puts values aside."""
        for name, array in values.items():
            self._drop(batch, name)
            if self._bytes + array.nbytes <= self._limit:
                self._bytes += array.nbytes
                self._batches[batch][name] = array
            else:
                path = Path(self._folder.name) / f"{self._count}.npy"
                self._count += 1
                np.save(path, array)
                self._batches[batch][name] = path

    def get(self, batch: int, names: Sequence[str]) -> Values:
        """Takes values up again; those that are not there are left out."""
        held = self._batches[batch]
        found: Values = {}
        for name in names:
            value = held.get(name)
            if value is not None:
                found[name] = np.load(value) if isinstance(value, Path) else value
        return found

    def forget(self, batch: int, alive: set[str]) -> None:
        """Drops whatever no later segment needs."""
        for name in [name for name in self._batches[batch] if name not in alive]:
            self._drop(batch, name)

    def _drop(self, batch: int, name: str) -> None:
        value = self._batches[batch].pop(name, None)
        if isinstance(value, Path):
            value.unlink()
        elif value is not None:
            self._bytes -= value.nbytes


def alive_after(segments: Sequence[Segment]) -> Iterator[set[str]]:
    """For each segment the values that later ones take up."""
    later: list[set[str]] = []
    needed: set[str] = set()
    for segment in reversed(segments):
        later.append(set(needed))
        needed |= set(segment.inputs)
    return iter(reversed(later))
