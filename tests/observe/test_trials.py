"""Judging any choice of units: closed repair, held-out samples, divergence at the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from compensate.nets import coupling_of, double, images, second_halves
from net_builder import Net, image

from onnx_scsp.couple import Coupling
from onnx_scsp.observe.elimination import eliminate
from onnx_scsp.observe.judge import held_out_samples, last_samples, repaired_weight
from onnx_scsp.observe.layers import input_units
from onnx_scsp.observe.reads import reads_of
from onnx_scsp.observe.statistics import HELD_OUT, collect
from onnx_scsp.observe.trials import Trials
from onnx_scsp.plan.cost import make_pools


def pool_of(coupling: Coupling) -> np.ndarray:
    (pool,) = make_pools(coupling, 1, 0.1)
    return pool.global_units


def stacked(n: Net, x: str) -> tuple[Coupling, str]:
    y = n.conv(x, 8)
    double(n, y)
    return coupling_of(n.build(n.conv(n.relu(y), 4))), y


def trials_of(coupling: Coupling, count: int = 64) -> Trials:
    found = collect(coupling, images(count), count)
    return Trials(coupling, [pool_of(coupling)], found, images(count), 1)


def test_copies_may_go_and_others_may_not() -> None:
    coupling, y = stacked(*image())
    units = input_units(coupling, y, 8, 1)
    row = {int(unit): place for place, unit in enumerate(pool_of(coupling))}
    copies = np.ones(8, bool)
    copies[[row[int(unit)] for unit in units[second_halves(8)]]] = False
    pairs = np.ones(8, bool)  # two pairs of copies go
    pairs[[row[int(units[place])] for place in (0, 1, 4, 5)]] = False
    none, free, dear = trials_of(coupling).errors(0, [np.ones(8, bool), copies, pairs])
    assert none == pytest.approx(0.0, abs=1e-6)
    assert free < 0.02 * dear


def test_without_outputs_to_compare_the_readers_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_scsp.observe.trials.outputs_of_known_size", lambda _: [])
    coupling, _ = stacked(*image())
    keep = np.ones(8, bool)
    keep[:4] = False
    trials = trials_of(coupling)
    assert trials._judge is None
    none, some = trials.errors(0, [np.ones(8, bool), keep])
    assert none == 0.0
    assert some >= 0.0


def test_the_repair_is_that_of_backward_elimination() -> None:
    n, x = image()
    coupling = coupling_of(n.build(n.conv(n.relu(n.conv(x, 8)), 4)))
    reads = reads_of(coupling, pool_of(coupling), collect(coupling, images(64), 64))
    way = eliminate(reads, 8, [5])
    keep = np.ones(8, bool)
    keep[way.order[:3]] = False
    weight, loss = repaired_weight(reads[0], keep)
    np.testing.assert_allclose(weight, way.snapshots[5][0], rtol=1e-6, atol=1e-9)
    assert loss == pytest.approx(way.loss[5], rel=0.1)


def test_where_nothing_stays_nothing_makes_up_for_it() -> None:
    coupling, _ = stacked(*image())
    reads = reads_of(coupling, pool_of(coupling), collect(coupling, images(64), 64))
    weight, loss = repaired_weight(reads[0], np.zeros(8, bool))
    assert not weight.any()
    assert loss > 0.1


def test_only_held_out_samples_judge() -> None:
    coupling, _ = stacked(*image())
    numbered = np.arange(100.0, dtype=np.float32)[:, None, None, None]
    every = np.broadcast_to(numbered, (100, 3, 8, 8))
    batches = [{"x": every[at : at + 30]} for at in range(0, 100, 30)]
    found = held_out_samples(coupling, batches, 1000)
    numbers = np.concatenate([batch["x"][:, 0, 0, 0] for batch in found])
    np.testing.assert_array_equal(numbers, np.arange(HELD_OUT - 1, 100, HELD_OUT))
    assert sum(len(batch["x"]) for batch in held_out_samples(coupling, batches, 3)) < 8


def test_of_a_fixed_batch_the_last_ones_are_taken_whole() -> None:
    n = Net()
    coupling, _ = stacked(n, n.input(16, 3, 8, 8))
    batches = images(64)
    found = held_out_samples(coupling, batches, 20)
    assert [batch["x"] is last["x"] for batch, last in zip(found, batches[-2:], strict=True)]
    assert len(found) == len(last_samples(batches, 20)) == 2
