"""Branches stacked beside channels: what runs over the stack axis ties whole fibres, no more."""

from __future__ import annotations

from pathlib import Path

import independent_twin
import onnx
import pytest
from more_nets import image
from net_builder import Net

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import from_proto
from onnx_scsp.pipeline import prune
from onnx_scsp.types import FreezeReason

CHANNELS = 12


def stacked(n: Net, x: str) -> str:
    """Two branches of equal width as (N, 2, C, H, W)."""
    parts = [n.op("Unsqueeze", n.block(x, CHANNELS), n.const([1])) for _ in range(2)]
    return str(n.op("Concat", *parts, axis=1))


def gate(n: Net, x: str, squash: str) -> str:
    """(N, 2, C, 1, 1) weights of the two branches, squashed over the branches."""
    pooled = n.op("GlobalAveragePool", x)
    n.channels[pooled] = CHANNELS
    logits = n.conv(n.relu(n.conv(pooled, 6, k=1)), 2 * CHANNELS, k=1)
    pairs = n.op("Reshape", logits, n.const([0, 2, CHANNELS, 1, 1]))
    return str(n.op(squash, pairs, axis=1))


def selective_kernel(squash: str = "Softmax") -> onnx.ModelProto:
    n, x = image()
    both = stacked(n, n.block(x, 8))
    total = n.op("ReduceSum", both, n.const([1]), keepdims=0)
    chosen = n.op("Mul", both, gate(n, total, squash))
    y = n.op("ReduceSum", chosen, n.const([1]), keepdims=0)
    n.channels[y] = CHANNELS
    return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


def strongest_branch() -> onnx.ModelProto:
    n, x = image()
    y = n.op("ReduceMax", stacked(n, n.block(x, 8)), axes=[1], keepdims=0)
    n.channels[y] = CHANNELS
    return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


NETWORKS = {
    "selective kernel": selective_kernel,
    "log gate": lambda: selective_kernel("LogSoftmax"),
    "strongest branch": strongest_branch,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_the_channels_go_and_the_independent_twin_agrees(name: str, tmp_path: Path) -> None:
    source, output, plan = (tmp_path / n for n in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(NETWORKS[name](), str(source))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    result = prune(source, output, config, plan_out=plan)
    halved = [pair for pair in result.layers.values() if pair[0] in (CHANNELS, 2 * CHANNELS)]
    assert all(after * 2 == before for before, after in halved)
    assert len(halved) >= 2
    assert independent_twin.compare(source, output, plan).error <= 1e-4


def test_both_branches_and_the_gate_are_one_group_of_whole_fibres() -> None:
    found = find_groups(from_proto(selective_kernel()))
    (group,) = [group for group in found.groups if len(group.layers) > 1]
    assert group.n_units == CHANNELS
    assert len(group.layers) == 3


def test_a_softmax_over_nothing_but_channels_still_holds_them() -> None:
    n, x = image()
    y = n.op("Softmax", n.conv(x, CHANNELS), axis=1)
    n.channels[y] = CHANNELS
    found = find_groups(from_proto(n.build(n.head(n.conv(y, 8)), output_shape=["N", 5])))
    assert FreezeReason.MIXES_CHANNELS in {entry.reason for entry in found.frozen}
