"""Whole runs on the digits: budget met, proved, no worse than it has to be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

import onnx  # noqa: E402

import onnx_scsp  # noqa: E402
from onnx_scsp.config import PruneConfig  # noqa: E402
from onnx_scsp.errors import ConfigError, VerifyError  # noqa: E402
from onnx_scsp.evaluate import Predictor, compare  # noqa: E402
from onnx_scsp.graph.load import load  # noqa: E402
from onnx_scsp.retrain import SCHEDULES, RetrainConfig, RetrainResult, soft_retrain  # noqa: E402
from onnx_scsp.retrain import finish as finish_module  # noqa: E402
from retrain.small_nets import DIGITS, FOLDED, digits, images, plain, saved  # noqa: E402

THIRD = PruneConfig(value=0.3)


def config(**options: object) -> RetrainConfig:
    given = {"epochs": 3, "batch": 32, "rate": 0.01, "held_out": 0.2}
    return RetrainConfig(**(given | options))


def retrain(
    tmp_path: Path, options: RetrainConfig, *, model: Path = DIGITS, count: int = 256, **more
) -> RetrainResult:
    x, y = digits(count)
    data = onnx_scsp.open_calibration(x, load(model))
    if "labels" not in more and not options.distill:
        more["labels"] = y
    more.setdefault("budget", THIRD)
    found = soft_retrain(model, tmp_path / "out.onnx", data, options, **more)
    assert found is not None
    return found


@pytest.mark.parametrize("method", SCHEDULES)
def test_every_schedule_meets_the_budget_and_is_proved(tmp_path: Path, method: str) -> None:
    budget = THIRD
    if method == "finetune":
        budget = PruneConfig(value=0.3, method="l2", compensate="none")
    found = retrain(tmp_path, config(method=method, epochs=2), budget=budget)
    assert found.report
    assert {"weights only", "PyTorch", "macs", "interface"} <= {c.name for c in found.report.checks}
    assert 0.25 < found.achieved <= 0.3
    assert found.divergence < 1e-4
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    assert [record["epoch"] for record in found.records] == [1, 2]


@pytest.mark.parametrize("method", ["scsp", "finetune"])
def test_folded_networks_come_back_without_batch_normalisation(tmp_path: Path, method) -> None:
    budget = PruneConfig(value=0.3, method="scsp", compensate="none")
    found = retrain(tmp_path, config(method=method, epochs=5), model=FOLDED, budget=budget)
    assert "folded" in {check.name for check in found.report.checks}
    before, after = onnx.load(FOLDED), onnx.load(tmp_path / "out.onnx")
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in before.graph.node]
    assert {t.name for t in after.graph.initializer} == {t.name for t in before.graph.initializer}
    assert found.metric_after is not None
    assert found.metric_after > 0.5


def test_training_makes_up_for_the_cut(tmp_path: Path) -> None:
    cut = PruneConfig(value=0.15, method="l2", compensate="none", synthetic=False)
    onnx_scsp.prune(DIGITS, tmp_path / "cut.onnx", cut)
    found = retrain(tmp_path, config(method="finetune", epochs=4), budget=cut)
    x, y = digits(900)
    x, y = x[400:], y[400:]

    def top1(path: Path) -> float:
        return float((Predictor(path)({"image": x})["logits"].argmax(1) == y).mean())

    assert found.achieved <= 0.15
    assert top1(tmp_path / "out.onnx") > max(top1(tmp_path / "cut.onnx") + 0.2, 0.8)


@pytest.mark.parametrize("distill", [False, True])
def test_mixed_precision_trains_and_writes_single_precision(tmp_path: Path, distill: bool) -> None:
    full = retrain(tmp_path, config(method="finetune", distill=distill))
    mixed = retrain(tmp_path, config(method="finetune", precision="bf16", distill=distill))
    assert mixed.report
    assert mixed.metric_after is not None
    assert mixed.metric_after > 0.9
    kinds = {t.data_type for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert kinds == {t.data_type for t in onnx.load(DIGITS).graph.initializer}
    assert mixed.records[-1]["loss"] != full.records[-1]["loss"]  # it did compute in bfloat16


def test_distillation_without_labels_brings_agreement_back(tmp_path: Path) -> None:
    cut = PruneConfig(value=0.15, method="l2", compensate="none", synthetic=False)
    onnx_scsp.prune(DIGITS, tmp_path / "cut.onnx", cut)
    found = retrain(
        tmp_path,
        config(method="finetune", epochs=4, distill=True, feature_weight=0.1),
        budget=cut,
    )
    assert found.metric == "agreement"
    held = onnx_scsp.open_calibration(digits(700)[0][400:], load(DIGITS))

    def agreement(path: Path) -> float:
        value = compare(Predictor(DIGITS), Predictor(path), held).agreement
        assert value is not None
        return value

    assert agreement(tmp_path / "out.onnx") > agreement(tmp_path / "cut.onnx") + 0.2


def test_useless_filters_die_and_the_useful_stay(tmp_path: Path) -> None:
    net = plain((8, 8))
    second = [name for name, array in net.weights.items() if array.ndim == 4][1]
    useless = [1, 2, 5, 6]
    net.weights[second][:, useless] *= 1e-3
    model = saved(net, tmp_path / "net.onnx")
    assert model.path is not None
    data = onnx_scsp.open_calibration(images(64), model)
    found = soft_retrain(
        model.path,
        tmp_path / "out.onnx",
        data,
        config(distill=True, rate=1e-3, epochs=2),
        budget=PruneConfig(target="ratio", value=0.5, ignore=(second,)),
    )
    assert found is not None
    cut = next(c for c in found.plan.cuts if c.n_units == 8)
    assert set(cut.keep).isdisjoint(useless)


def test_a_plan_is_carried_out_as_it_is(tmp_path: Path) -> None:
    plan = onnx_scsp.make_plan(
        load(FOLDED), PruneConfig(value=0.4, method="l2", compensate="none", synthetic=False)
    )
    found = retrain(tmp_path, config(), model=FOLDED, plan=plan, plan_out=tmp_path / "p.json")
    assert [cut.keep for cut in found.plan.cuts] == [cut.keep for cut in plan.cuts]
    assert found.target == ("", 0.0)
    again = onnx_scsp.apply_plan(load(FOLDED), onnx_scsp.read_plan(tmp_path / "p.json"))
    assert again.proto is not None


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    options = {"augment": "flip,crop1", "ema": 0.9, "epochs": 2}
    written = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        retrain(tmp_path / name, config(seed=seed, **options), count=128)
        written.append((tmp_path / name / "out.onnx").read_bytes())
    assert written[0] == written[1] != written[2]


def test_accumulated_parts_are_the_whole_batch(tmp_path: Path) -> None:
    model = saved(plain(), tmp_path / "net.onnx")
    assert model.path is not None
    x = images(64)
    found = []
    for parts in (1, 4):
        soft_retrain(
            model.path,
            tmp_path / "out.onnx",
            onnx_scsp.open_calibration(x, model),
            config(distill=True, accumulate=parts, norm="keep", epochs=2, rate=1e-3),
            budget=PruneConfig(target="ratio", value=0.5),
        )
        found.append(next(iter(Predictor(tmp_path / "out.onnx")({"x": x}).values())))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_logs_hold_one_line_per_epoch_and_the_survivors(tmp_path: Path) -> None:
    retrain(tmp_path, config(), run_dir=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    with (tmp_path / "run/log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [line["epoch"] for line in lines] == [1, 2, 3] == [int(row["epoch"]) for row in rows]
    assert all({"loss", "metric", "metric_cut", "macs", "survivors"} <= set(line) for line in lines)
    assert not (tmp_path / "run/checkpoint.safetensors").exists()


def test_patience_stops_early_and_takes_the_best(tmp_path: Path) -> None:
    found = retrain(tmp_path, config(method="one-per-cluster", epochs=12, patience=1, rate=1e-9))
    assert len(found.records) < 12
    best = max(record["metric"] for record in found.records)
    assert found.metric_after == pytest.approx(best)


def test_a_result_that_is_not_proved_is_not_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(finish_module, "torch_divergence", lambda *_args: 0.5)
    with pytest.raises(VerifyError, match="PyTorch"):
        retrain(tmp_path, config(epochs=1))
    assert not (tmp_path / "out.onnx").exists()


def test_a_graph_that_changed_besides_its_weights_is_noticed(tmp_path: Path) -> None:
    model = saved(plain(), tmp_path / "net.onnx")
    other = onnx.load(tmp_path / "net.onnx")
    other.graph.node[0].attribute.append(onnx.helper.make_attribute("dilations", [1, 1]))
    onnx.save(other, tmp_path / "other.onnx")
    assert not finish_module.check_weights_only(model, load(tmp_path / "other.onnx")).passed
    same = onnx.load(tmp_path / "net.onnx")
    same.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(same.graph.initializer[0]) + 1,
            same.graph.initializer[0].name,
        )
    )
    onnx.save(same, tmp_path / "same.onnx")
    assert finish_module.check_weights_only(model, load(tmp_path / "same.onnx")).passed


BAD = {
    "nothing to learn from": ({"labels": None}, {}, "nothing to learn from"),
    "an unknown schedule": ({}, {"method": "magic"}, "use one of scsp"),
    "an unknown output": ({}, {"output_name": "y"}, "'y' is no output; the model has logits"),
    "features alone": ({}, {"feature_weight": 1.0}, "give --distill"),
    "labels out of range": ({"labels": np.full(256, 10)}, {}, "label 10 is none of"),
    "a batch that cannot be parted": ({}, {"accumulate": 5}, "no multiple of 5"),
    "no such accelerator": ({}, {"accelerator": "abacus"}, "abacus cannot be used"),
    "classes without labels": ({"labels": None}, {"method": "fractional", "distill": True},
                               "give --labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    arguments, options, words = BAD[case]
    with pytest.raises(ConfigError, match=words):
        retrain(tmp_path, config(**options), **arguments)
    assert not (tmp_path / "out.onnx").exists()


def test_a_rate_that_explodes_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower --rate"):
        retrain(tmp_path, config(rate=1e3, norm="keep"), model=FOLDED)


def test_a_run_is_not_overwritten_unasked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(finish_module, "torch_divergence", lambda *_args: 0.5)
    with pytest.raises(VerifyError):
        retrain(tmp_path, config(epochs=1))
    with pytest.raises(ConfigError, match="go on with it by --resume"):
        retrain(tmp_path, config(epochs=1))
    with pytest.raises(ConfigError, match=r"holds a run with rate 0\.01, not 0\.02"):
        retrain(tmp_path, config(epochs=1, rate=0.02), resume=True)
    monkeypatch.undo()
    assert retrain(tmp_path, config(epochs=1), resume=True).report
