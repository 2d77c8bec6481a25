"""k-means folding: filters of a layer are clustered, their centroid replaces them, readers sum.

    k-means on the rows w_u (filter with its bias, normalisation folded in)
    w_c = mean of w_u over the cluster c          r_c = sum of r_u, the readers' slices

Every group keeps the same share of its channels, which is bisected. On the CIFAR ResNets only the
inner channels of each block are folded, elsewhere every group. Which channels go together is
onnx_scsp's knowledge, and its surgery sums the readers; clustering and centroids are this file's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.types import ChannelGroup, GroupCut, Member, PrunePlan, Role
from tools.accuracy.catalog import Method, Task
from tools.accuracy.ours import macs
from tools.accuracy.search import bisect

ROUNDS, SEED = 25, 0
Rows = NDArray[np.float64]
Marks = NDArray[np.int64]


def kmeans(rows: Rows, k: int, seed: int = SEED) -> Marks:
    """Lloyd's algorithm from a k-means++ start.

    Args:
        rows: (n, features).
        k: Number of clusters, at most n.
        seed: Seed of the start.

    Returns:
        Cluster of each row, 0..k-1, none empty.
    """
    random = np.random.default_rng(seed)
    chosen = [int(random.integers(len(rows)))]
    near = np.full(len(rows), np.inf)
    while len(chosen) < k:
        near = np.minimum(near, _distances(rows, rows[chosen[-1:]])[:, 0])
        near[chosen] = 0
        total = near.sum()
        weights = near / total if total > 0 else None
        rest = np.setdiff1d(np.arange(len(rows)), chosen)
        chosen.append(int(random.choice(len(rows), p=weights) if total > 0 else rest[0]))
    centres = rows[chosen].copy()
    labels = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        far = _distances(rows, centres)
        found = far.argmin(1)
        for empty in np.setdiff1d(np.arange(k), found):  # takes the row that fits its own worst
            counts = np.bincount(found, minlength=k)
            cost = np.where(counts[found] > 1, far[np.arange(len(rows)), found], -1)
            found[int(cost.argmax())] = empty
        if (found == labels).all():
            break
        labels = found
        centres = np.stack([rows[labels == cluster].mean(0) for cluster in range(k)])
    return labels


def _distances(a: Rows, b: Rows) -> Rows:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.asarray(np.clip(square, 0, None))


def prune(task: Task, method: Method, budget: float, calib: Path, output: Path) -> dict[str, Any]:
    """Folds the network to the budget.

    Args:
        task: The network.
        method: Not used; there is one way.
        budget: Share of the MACs that may remain.
        calib: Not used: it needs no data.
        output: Where the result goes.

    Returns:
        The setting that was found.
    """
    del method, calib
    dense = output.with_name("dense.onnx")
    proto, folded = _fold(task)
    onnx.save(proto, str(dense))
    shapes = {task.input: task.shape}
    coupling = find_coupling(onnx_scsp.load(dense), input_shapes=shapes)
    groups = [g for g in coupling.map.groups if task.family != "cifar" or len(g.layers) == 1]
    whole = macs(Path(task.model), task)
    values = _constants(proto)
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in values.items()}
    rows = [_profiles(group, arrays) for group in groups]

    def fold(removed: float) -> None:
        changed = {name: array.copy() for name, array in arrays.items()}
        cuts = tuple(
            _group(group, 1 - removed, changed, found)
            for group, found in zip(groups, rows, strict=True)
        )
        averaged = onnx.ModelProto()
        averaged.CopyFrom(proto)
        for name, tensor in _constants(averaged).items():
            new = numpy_helper.from_array(changed[name], tensor.name)
            tensor.CopyFrom(new)
        path = output.with_name("averaged.onnx")
        onnx.save(averaged, str(path))
        model = onnx_scsp.load(path)
        found = coupling.map
        plan = PrunePlan(1, model.sha256, {}, cuts, found.groups, found.frozen)
        onnx_scsp.save(onnx_scsp.apply_plan(model, plan, input_shapes=shapes), output)

    def left(removed: float) -> float:
        fold(removed)
        return macs(output, task) / whole

    share = bisect(left, budget)
    fold(share)
    return {"setting": share, "folded first": folded}


def _fold(task: Task) -> tuple[onnx.ModelProto, bool]:
    """The network with its normalisation folded into convolutions, by onnxsim."""
    proto = onnx.load(task.model)
    if not any(node.op_type == "BatchNormalization" for node in proto.graph.node):
        return proto, False
    simple, fine = importlib.import_module("onnxsim").simplify(task.model)
    if not fine:
        raise ValueError("onnxsim's simplification, which folds BN, changes the outputs")
    return simple, True


def _constants(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _profiles(group: ChannelGroup, values: dict[str, Any]) -> list[tuple[Marks, Rows]]:
    """Per profile its units and their rows, turned so that no row is longer than there are rows.

    Turning keeps every distance: rows = L Q' with orthonormal Q, and L is what k-means sees.
    """
    found = []
    for profile in np.unique(group.profile):
        units = np.flatnonzero(group.profile == profile)
        rows = _rows(group, units, values)
        if rows.shape[1] > len(units):
            rows = np.linalg.qr(rows.T, mode="r").T
        found.append((units, rows))
    return found


def _group(
    group: ChannelGroup, share: float, values: dict[str, Any], profiles: list[tuple[Marks, Rows]]
) -> GroupCut:
    """Clusters one group, writes the centroids into `values`, says who stays."""
    labels = np.full(group.n_units, -1)
    count = 0
    for units, rows in profiles:
        k = max(1, round(share * len(units))) if rows.shape[1] else len(units)
        found = kmeans(rows, k) if k < len(units) else np.arange(len(units))
        labels[units] = found + count
        count += k
    keep, absorbed = [], {}
    for cluster in range(count):
        members = np.flatnonzero(labels == cluster)
        keep.append(int(members[0]))
        absorbed.update({int(unit): int(members[0]) for unit in members[1:]})
        if len(members) > 1:
            _average(group, members, values)
    return GroupCut(
        group.id, group.n_units, tuple(sorted(keep)), absorbed, dict.fromkeys(absorbed, 1.0)
    )


def _made(group: ChannelGroup, values: dict[str, Any]) -> Iterator[Member]:
    """What makes the units or filters them one by one."""
    for member in group.members:
        if member.role is not Role.READS and member.units.ndim == 1 and member.tensor in values:
            yield member


def _rows(group: ChannelGroup, units: Marks, values: dict[str, Any]) -> Rows:
    parts = []
    for member in _made(group, values):
        array = np.moveaxis(values[member.tensor], member.axis, 0).astype(np.float64)
        entries = [np.flatnonzero(member.units == unit) for unit in units]
        if all(len(places) == len(entries[0]) > 0 for places in entries):
            parts.append(np.stack([array[places].ravel() for places in entries]))
    return np.concatenate(parts, 1) if parts else np.empty((len(units), 0))


def _average(group: ChannelGroup, units: Marks, values: dict[str, Any]) -> None:
    for member in _made(group, values):
        view = np.moveaxis(values[member.tensor], member.axis, 0)
        entries = [np.flatnonzero(member.units == unit) for unit in units]
        if len({len(places) for places in entries}) != 1:
            continue
        for places in zip(*entries, strict=True):
            view[list(places)] = view[list(places)].mean(0)
