"""Extra entries of the tables are used; unknown names and impossible options are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from graph.small import DIGITS

import onnx_scsp
from onnx_scsp.describe import CRITERIA
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.partition import CLUSTERERS
from onnx_scsp.plan import COMPENSATORS, METHODS, Method, Pick, Tools
from onnx_scsp.types import FloatArray, Partition, PrunePlan
from onnx_scsp.units import UnitTable


@pytest.fixture(scope="module")
def model() -> Model:
    return onnx_scsp.load(DIGITS / "digits_folded.onnx")


def plan_of(model: Model, choices: onnx_scsp.Choices, **options: object) -> PrunePlan:
    config = onnx_scsp.PruneConfig(**({"target": "ratio", "value": 0.5, "align": 1} | options))
    return onnx_scsp.make_plan(model, config, choices=choices)


def _first_curve(table: UnitTable, _: Tools) -> FloatArray:
    return np.linspace(1.0, 0.0, table.n_units + 1)


def _first_pick(_: UnitTable, k: int, __: Tools) -> Pick:
    return Pick(np.arange(k))


FIRST = Method("first", "the first units stay", _first_curve, _first_pick)


@pytest.mark.parametrize("target", ["ratio", "macs", "params"])
def test_an_extra_method_is_used(target: str, model: Model) -> None:
    choices = onnx_scsp.Choices(methods=METHODS | {"first": FIRST})
    plan = plan_of(model, choices, method="first", target=target)
    assert plan.cuts
    assert all(cut.keep == tuple(range(len(cut.keep))) for cut in plan.cuts)


def test_an_extra_clusterer_is_used(model: Model) -> None:
    def halves(gram: FloatArray, k: int) -> Partition:
        n = gram.shape[0]
        return Partition(np.arange(n) * min(k, n) // n, min(k, n), np.zeros(n), 1)

    choices = onnx_scsp.Choices(clusterers=CLUSTERERS | {"halves": halves})
    plan = plan_of(model, choices, method="one-per-cluster", clusterer="halves")
    assert all(
        {unit * len(cut.keep) // cut.n_units for unit in cut.keep} == set(range(len(cut.keep)))
        for cut in plan.cuts
    )


def test_an_extra_criterion_is_used(model: Model) -> None:
    def late(table: UnitTable) -> FloatArray:
        return table.units.astype(np.float64) + 1.0

    def one_cluster(gram: FloatArray, k: int) -> Partition:
        n = gram.shape[0]
        return Partition(np.zeros(n, np.int64), 1, np.zeros(n), 1)

    choices = onnx_scsp.Choices(
        criteria=CRITERIA | {"late": late}, clusterers=CLUSTERERS | {"one": one_cluster}
    )
    plan = plan_of(model, choices, method="one-per-cluster", criterion="late", clusterer="one")
    assert all(
        cut.keep == tuple(range(cut.n_units - len(cut.keep), cut.n_units)) for cut in plan.cuts
    )


def test_an_extra_compensator_is_used(model: Model) -> None:
    def to_the_first(
        table: UnitTable, pick: Pick, threshold: float
    ) -> tuple[dict[int, int], dict[int, float]]:
        assert threshold == 0.25
        gone = np.setdiff1d(np.arange(table.n_units), pick.keep)
        heir = int(table.units[pick.keep[0]])
        return {int(unit): heir for unit in table.units[gone]}, {}

    choices = onnx_scsp.Choices(compensators=COMPENSATORS | {"first": to_the_first})
    plan = plan_of(model, choices, compensate="first", merge_threshold=0.25)
    assert all(set(cut.absorbed_by.values()) == {cut.keep[0]} for cut in plan.cuts)


def test_without_a_compensator_nothing_is_absorbed(model: Model) -> None:
    plan = plan_of(model, onnx_scsp.Choices(), compensate="none")
    assert plan.cuts
    assert not any(cut.absorbed_by for cut in plan.cuts)


def test_an_extra_method_is_verified_like_any_other(tmp_path: Path) -> None:
    choices = onnx_scsp.Choices(methods=METHODS | {"first": FIRST})
    config = onnx_scsp.PruneConfig(method="first")
    source = DIGITS / "digits_folded.onnx"
    result = onnx_scsp.prune(source, tmp_path / "out.onnx", config, choices=choices)
    assert result.report


@pytest.mark.parametrize("option", ["method", "clusterer", "criterion", "compensate"])
def test_an_unknown_name_is_refused_with_the_known_ones(option: str, model: Model) -> None:
    known = {"method": "scsp", "clusterer": "spectral", "criterion": "energy"}
    with pytest.raises(ConfigError, match=known.get(option, "merge")):
        plan_of(model, onnx_scsp.Choices(), **{option: "best"})


@pytest.mark.parametrize("table", [METHODS, CLUSTERERS, CRITERIA, COMPENSATORS])
def test_the_tables_themselves_cannot_be_changed(table: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        table["mine"] = None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("target", "speed"), ("value", 0.0), ("value", 1.0), ("value", -0.5), ("value", 2),
        ("value", math.nan), ("value", "0.5"), ("value", None), ("value", True), ("align", 0),
        ("align", -4), ("align", 2.5), ("align", "4"), ("align", True), ("min_share", -0.1),
        ("min_share", 1.0), ("min_share", math.nan), ("min_share", "0"), ("merge_threshold", -0.1),
        ("merge_threshold", 1.1), ("merge_threshold", math.nan), ("seed", -1), ("seed", 2**32),
        ("seed", 0.5), ("ignore", "conv*"), ("ignore", (3,)),
    ],
)  # fmt: skip
def test_an_impossible_option_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        onnx_scsp.PruneConfig(**{option: value})
    name = option.replace("_", "-")
    assert option in str(caught.value) or name in str(caught.value) or "--macs" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tolerance", -1e-4), ("tolerance", math.nan), ("tolerance", math.inf), ("tolerance", "0"),
        ("half_tolerance", -1.0), ("seed", -1), ("seed", 1.5), ("threads", 0), ("threads", 1.5),
    ],
)  # fmt: skip
def test_an_impossible_check_option_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        onnx_scsp.VerifyConfig(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [("value", 0.999), ("align", 1), ("min_share", 0), ("merge_threshold", 1), ("seed", 2**32 - 1)],
)
def test_values_at_the_edge_are_accepted(option: str, value: float) -> None:
    assert getattr(onnx_scsp.PruneConfig(**{option: value}), option) == value


def test_options_are_plain_json_values() -> None:
    options = onnx_scsp.PruneConfig(ignore=("a*", "b")).as_dict()
    assert options["ignore"] == ["a*", "b"]
    assert onnx_scsp.PruneConfig(**options | {"ignore": tuple(options["ignore"])}) == (
        onnx_scsp.PruneConfig(ignore=("a*", "b"))
    )


def test_the_seed_changes_a_random_plan(model: Model) -> None:
    plans = [plan_of(model, onnx_scsp.Choices(), method="random", seed=seed) for seed in (0, 1)]
    assert plans[0].cuts != plans[1].cuts


def test_ignored_layers_stay_whole(model: Model) -> None:
    plan = plan_of(model, onnx_scsp.Choices(), ignore=("block2.conv1*",))
    assert "block2.conv1" not in {layer for group in plan.groups for layer in group.layers}


def test_a_pattern_that_matches_nothing_is_refused(model: Model) -> None:
    with pytest.raises(ConfigError, match="absent"):
        plan_of(model, onnx_scsp.Choices(), ignore=("absent*",))
