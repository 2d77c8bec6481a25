"""As few rounds as it takes to tell, and a model's time by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.small import DIGITS
from net_builder import image

import onnx_scsp
from onnx_scsp.measure import compare as module
from onnx_scsp.measure.compare import BATCHES, Comparison, comparer
from onnx_scsp.measure.interleave import Rounds
from onnx_scsp.measure.layers import layer_times

MODEL = DIGITS / "digits_bn.onnx"


def comparison(low: float, high: float, noise: float = 0.02) -> Comparison:
    return Comparison((low + high) / 2, low, high, noise, 1.0, (low + high) / 2)


@pytest.mark.parametrize(
    ("low", "high", "slower"),
    [(0.5, 0.6, False), (0.9, 1.1, False), (1.0, 1.3, False), (1.03, 1.3, True)],
)
def test_slower_is_what_lies_beyond_the_noise(low: float, high: float, slower: bool) -> None:
    assert comparison(low, high).is_slower == slower


def test_a_verdict_is_clear_when_more_rounds_would_not_change_it() -> None:
    assert comparison(0.5, 0.9).is_clear
    assert comparison(1.5, 1.9).is_clear
    assert not comparison(0.9, 1.1).is_clear


class Turns:
    """Stands in for `interleave`: columns by a function of the round, and counts the rounds."""

    def __init__(self, ratio: float, spread: float) -> None:
        self.ratio, self.spread = ratio, spread
        self.rng = np.random.default_rng(0)
        self.rounds = 0

    def __call__(self, runs: Sequence[object], rounds: int, **_: object) -> Rounds:
        self.rounds += rounds
        noise = 1.0 + self.spread * self.rng.uniform(-1.0, 1.0, (rounds, len(runs)))
        seconds = noise * np.array([1.0, self.ratio, 1.0])[: len(runs)]
        return Rounds(seconds, 0, None)


def compared(
    monkeypatch: pytest.MonkeyPatch, ratio: float, spread: float, *, thorough: bool = False
) -> tuple[Comparison, int]:
    turns = Turns(ratio, spread)
    monkeypatch.setattr(module, "interleave", turns)
    return comparer(thorough=thorough)(onnx_scsp.load(MODEL), MODEL), turns.rounds


def test_an_obvious_difference_takes_two_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    found, rounds = compared(monkeypatch, 0.5, 0.05)
    assert rounds == BATCHES[0]
    assert found.ratio == pytest.approx(0.5, rel=0.1)
    assert not found.is_slower


def test_a_clear_difference_takes_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    found, rounds = compared(monkeypatch, 0.93, 0.005)
    assert rounds == sum(BATCHES[:2])
    assert found.ratio == pytest.approx(0.93, rel=0.02)
    assert not found.is_slower


@pytest.mark.parametrize(
    ("seconds", "enough"),
    [
        ([[1.0, 0.5, 1.0], [1.0, 0.5, 1.0]], True),
        ([[1.0, 0.5, 1.0], [1.0, 0.95, 1.0]], False),  # once not much faster
        ([[1.0, 0.5, 1.0], [1.0, 0.5, 0.5]], False),  # the original once as fast
        ([[9.0, 1.1, 1.0], [9.0, 1.1, 1.0]], False),  # slower than its second session
    ],
)
def test_two_rounds_suffice_only_where_every_run_is_faster_than_every_other(
    seconds: list[list[float]], enough: bool
) -> None:
    assert module._suffices(np.array(seconds), thorough=False) == enough


def test_a_small_difference_takes_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found, rounds = compared(monkeypatch, 1.0, 0.05)
    assert rounds == sum(BATCHES)
    assert not found.is_slower


def test_something_slower_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found, rounds = compared(monkeypatch, 1.5, 0.02)
    assert rounds == sum(BATCHES[:2])
    assert found.is_slower


def test_a_ratio_that_is_wanted_itself_is_measured_until_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, quiet = compared(monkeypatch, 0.5, 0.005, thorough=True)
    _, loud = compared(monkeypatch, 0.5, 0.3, thorough=True)
    assert (quiet, loud) == (sum(BATCHES[:3]), sum(BATCHES))


def test_big_models_are_never_held_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELD_BYTES", 1)
    seen: list[int] = []

    def alone(runs: Sequence[object], rounds: int, **_: object) -> Rounds:
        seen.append(len(runs))
        return Rounds(np.full((rounds, 1), 1.0 + 0.5 * (len(seen) == 2)), 0, None)

    monkeypatch.setattr(module, "interleave", alone)
    found = comparer()(onnx_scsp.load(MODEL), MODEL)
    assert seen == [1, 1, 1]
    assert found.ratio == 1.5


# ---- by layer ---------------------------------------------------------------------------------


def test_every_layer_of_a_model_has_its_time() -> None:
    model = onnx_scsp.load(MODEL)
    times = layer_times(model)
    convs = [n.name for n in model.proto.graph.node if n.op_type == "Conv"]
    assert convs
    assert all(times.ms.get(name, 0.0) > 0.0 for name in convs)
    assert set(times.ms) <= {n.name for n in model.proto.graph.node}
    assert times.rest_ms >= 0.0


def test_the_larger_layer_takes_longer(tmp_path: Path) -> None:
    n, x = image()
    small = n.relu(n.conv(x, 4))
    proto = n.build(n.head(n.relu(n.conv(n.relu(n.conv(small, 256)), 256))))
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    times = layer_times(onnx_scsp.load(path))
    first, _, last = (times.ms[node.name] for node in proto.graph.node if node.op_type == "Conv")
    assert last > first
