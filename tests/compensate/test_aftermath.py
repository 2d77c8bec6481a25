"""Cuts judged after the repair: what is measured is what the repaired cut does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from net_builder import Net, image
from nets import NETS

import onnx_scsp
from compensate.nets import Batch, coupling_of, double, images, second_halves, without
from onnx_scsp import calibrated
from onnx_scsp.compensate import aftermath as module
from onnx_scsp.compensate import sweep
from onnx_scsp.compensate.aftermath import Aftermath, prepare_aftermath
from onnx_scsp.couple import Coupling
from onnx_scsp.evaluate import Gaps
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import open_variant, run_session
from onnx_scsp.surgery.cut import kept_units


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def judge_of(coupling: Coupling, count: int = 128, **options: Any) -> Aftermath | None:
    given = {"by_channel": False, "seed": 0, "threads": 1, "cuts": 4, **options}
    cuts = given.pop("cuts")
    return prepare_aftermath(coupling, images(count), count, cuts, **given)


def damage(coupling: Coupling, *keeps: np.ndarray, **options: Any) -> list[float]:
    judge = judge_of(coupling, **options)
    assert judge is not None
    return judge(keeps, silent)


def copies() -> tuple[Coupling, np.ndarray, np.ndarray]:
    """Eight channels of which four are copies; without the copies, and without four originals."""
    n, x = image()
    y = n.conv(x, 8)
    double(n, y)
    coupling = coupling_of(n.build(n.head(n.relu(y))))
    is_copy = second_halves(8)
    spared = is_copy.copy()
    spared[[0, 4]] = True  # both of one pair
    spared[[6, 7]] = False
    return coupling, without(coupling, y, is_copy), without(coupling, y, spared)


def test_a_cut_that_others_make_up_for_does_nothing() -> None:
    coupling, free, dear = copies()
    cheap, hurt = damage(coupling, free, dear)
    assert cheap < 1e-5 < 1e-2 * hurt


def smooth() -> onnx.ModelProto:
    """Layers one after another without a ReLU."""
    n, x = image()
    first = n.op("Sigmoid", n.conv(x, 12))
    second = n.op("Sigmoid", n.conv(first, 10))
    return n.build(n.head(n.op("Sigmoid", n.conv(second, 8))))


def attended() -> onnx.ModelProto:
    """A mean over the channels, which a cut has to leave as if they were zero."""
    n, x = image()
    y = n.op("Sigmoid", n.conv(x, 12))
    mean = n.op("ReduceMean", y, axes=[1], keepdims=1, channels=1)
    gate = n.op("Sigmoid", n.conv(mean, 1))
    return n.build(n.head(n.op("Sigmoid", n.conv(n.op("Mul", y, gate, channels=12), 8))))


@pytest.mark.parametrize("repair", ["reconstruct", "gram"])
@pytest.mark.parametrize("make", [smooth, attended])
def test_the_figure_is_that_of_the_network_cut_and_repaired_alike(
    make: Callable[[], onnx.ModelProto], repair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_SPARSE", 1)  # from the same positions
    model = from_proto(make())
    coupling = coupling_of(model.proto)
    every = np.random.default_rng(0).standard_normal((128, 3, 8, 8)).astype(np.float32)
    fitted, held = every[:64], every[64:]
    config = onnx_scsp.PruneConfig(target="ratio", value=0.6, align=1, compensate=repair)
    data = onnx_scsp.open_calibration(fitted, model)
    plan = onnx_scsp.make_plan(model, config, calibration=data)
    assert plan.cuts
    shipped = onnx_scsp.apply_plan(model, plan, calibration=data)
    gaps = Gaps()
    gaps.add(outputs(model, model.proto, held), outputs(model, shipped.proto, held))
    batches = [{"x": fitted}, {"x": held}]
    judge = prepare_aftermath(
        coupling, batches, 128, 1, by_channel=repair == "gram", seed=0, threads=1
    )
    assert judge is not None
    (found,) = judge([kept_units(coupling, plan)], silent)
    assert gaps.value > 1e-8
    assert found == pytest.approx(gaps.value, rel=1e-3)


def outputs(model: Model, proto: onnx.ModelProto | None, images: np.ndarray) -> Batch:
    assert proto is not None
    with open_variant(proto, model) as session:
        return run_session(session, {"x": images})


def test_how_many_are_judged_at_a_time_makes_no_difference() -> None:
    coupling, free, dear = copies()
    assert damage(coupling, free, dear, threads=2) == damage(coupling, free, dear)


def test_progress_counts_the_cuts() -> None:
    coupling, free, dear = copies()
    judge = judge_of(coupling)
    assert judge is not None
    seen: list[tuple[int, int]] = []
    judge([free, dear], lambda _what, done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


# ---- which samples ----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(64, 16), (100, 64), (500, 64), (65, 64), (80, 1)])
def test_no_sample_is_both_fitted_to_and_judged_on(
    count: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupling, *_ = copies()
    judged: list[np.ndarray] = []
    monkeypatch.setattr(module, "Judge", lambda _c, held, *_: judged.extend(b["x"] for b in held))
    every = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 3, 8, 8))
    batches = [{"x": every[i : i + size]} for i in range(0, count, size)]
    found = prepare_aftermath(coupling, batches, count, 1, by_channel=False, seed=0, threads=1)
    assert found is not None
    held = {int(sample[0, 0, 0]) for array in judged for sample in array}
    fitted = {int(sample[0, 0, 0]) for batch in found.fitted for sample in batch["x"]}
    wanted = min(count // 2, 96)
    assert fitted == set(range(wanted))
    assert held == set(range(count - wanted, count))


def test_batches_of_a_fixed_size_stay_whole() -> None:
    n = Net()
    x = n.input(16, 3, 8, 8)
    coupling = coupling_of(n.build(n.head(n.relu(n.conv(x, 8)))))
    judge = judge_of(coupling, 96)
    assert judge is not None
    assert [len(batch["x"]) for batch in judge.fitted] == [16, 16, 16]


# ---- where it cannot be done ------------------------------------------------------------------


def test_a_network_with_few_samples_is_not_judged() -> None:
    coupling, *_ = copies()
    assert judge_of(coupling, 46) is None
    assert judge_of(coupling, 48) is not None


def test_a_network_that_is_too_large_is_not_judged() -> None:
    coupling, *_ = copies()
    work = 3.0 * 24 * 4 * coupling.work
    assert judge_of(coupling, cuts=4, work=work) is not None
    assert judge_of(coupling, cuts=5, work=work) is None
    assert judge_of(coupling, cuts=5) is not None


def test_less_work_goes_into_invented_inputs_and_more_of_them_are_needed() -> None:
    coupling, *_ = copies()
    work = 10.0 * 3.0 * 24 * 4 * coupling.work  # ten times what 24 samples cost
    assert judge_of(coupling, cuts=4, work=work, invented=True) is None
    assert judge_of(coupling, cuts=4, work=work / 10) is not None
    assert judge_of(coupling, cuts=4, work=64 / 24 * work, invented=True) is not None


def test_synthetic_images_are_known_for_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def spy(*args: Any, **given: Any) -> Aftermath | None:
        asked.append(given["invented"])
        return None

    monkeypatch.setattr(calibrated, "prepare_aftermath", spy)
    n, x = image(size=16)
    model = from_proto(n.build(n.head(n.relu(n.conv(x, 8)))))
    given = onnx_scsp.open_calibration(np.zeros((64, 3, 16, 16), np.float32), model)
    for data in (given, None):
        config = onnx_scsp.PruneConfig(value=0.6, align=1)
        onnx_scsp.make_plan(model, config, calibration=data)
    assert asked == [False, True]


def test_outputs_of_unknown_size_are_not_judged() -> None:
    n, x = image()
    y = n.head(n.relu(n.conv(x, 8)))
    assert judge_of(coupling_of(n.build(n.op("NonZero", y)))) is None


# ---- in the recipe ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, [False]),
        ({"compensate": "gram"}, [True]),
        ({"second_look": False}, []),
        ({"compensate": "none"}, []),
        ({"compensate": "bn"}, []),
        ({"target": "ratio"}, []),
    ],
)
def test_plans_are_made_by_it_where_a_sweep_repairs_and_widths_are_open(
    options: dict[str, Any], asked: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def spy(*args: Any, **given: Any) -> Aftermath | None:
        calls.append(given["by_channel"])
        return prepare_aftermath(*args, **given)

    monkeypatch.setattr(calibrated, "prepare_aftermath", spy)
    model = from_proto(NETS["residual_projection"]())
    data = onnx_scsp.open_calibration(images(64)[0]["x"].repeat(4, axis=0), model)
    config = onnx_scsp.PruneConfig(**{"value": 0.6, "align": 1, **options})
    onnx_scsp.make_plan(model, config, calibration=data)
    assert calls == asked
