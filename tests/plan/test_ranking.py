"""Every criterion is a method: who goes, at what loss, and what is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.small import DIGITS
from nets import NETS

import onnx_scsp
from onnx_scsp.calibration import CalibrationData, open_calibration
from onnx_scsp.config import BY_WEIGHTS, NEEDS_DATA, SEEING, TRYING
from onnx_scsp.couple import find_coupling
from onnx_scsp.describe import AFFINITIES, CRITERIA
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model
from onnx_scsp.observe import Evidence
from onnx_scsp.observe.activity import activity_of
from onnx_scsp.observe.elimination import Elimination
from onnx_scsp.plan import COMPENSATORS, METHODS, plan_cuts
from onnx_scsp.plan.ranking import rankings
from onnx_scsp.types import FloatArray
from onnx_scsp.units import Activity, UnitTable
from plan.tables import directions, table, tools

HALF = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, synthetic=False)


def given(table: UnitTable) -> FloatArray:
    """Scores as given."""
    assert table.importance is not None
    return table.importance


GIVEN = rankings({"given": given})["given"]


def scored(*scores: float) -> UnitTable:
    return replace(table(directions(len(scores))), importance=np.array(scores))


def test_the_least_worthy_units_go() -> None:
    assert GIVEN.pick(scored(3, 1, 4, 1.5, 9), 3, tools()).keep.tolist() == [0, 2, 4]


def test_of_equal_units_the_first_stay() -> None:
    assert GIVEN.pick(scored(1, 1, 1, 1), 2, tools()).keep.tolist() == [0, 1]


def test_the_curve_is_the_share_of_worth_that_goes() -> None:
    np.testing.assert_allclose(GIVEN.curve(scored(1, 2, 5), tools()), [1.0, 3 / 8, 1 / 8, 0.0])


def test_dead_units_go_before_worthy_ones() -> None:
    rows = directions(3)
    rows[1] = 0.0
    found = replace(table(rows), importance=np.array([1.0, 100.0, 1.0]))
    assert GIVEN.pick(found, 2, tools()).keep.tolist() == [0, 2]


def test_units_one_of_a_kind_are_compared_by_what_is_known_of_all() -> None:
    found = replace(scored(2, 1), activity=Activity((), np.array([1.0, 5.0])))
    worth = METHODS["output-error"].worth(found, tools())
    np.testing.assert_array_equal(worth, CRITERIA["energy"](found))


def test_units_that_go_later_in_elimination_are_worth_more() -> None:
    way = Elimination(np.array([2, 0, 1]), np.array([9.0, 4.0, 1.0, 0.0]), {})
    found = replace(scored(1, 1, 1), activity=activity_of((), way, None))
    assert CRITERIA["output-error"](found).tolist() == [4.0, 9.0, 1.0]


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_is_a_method_with_a_line_about_it(name: str) -> None:
    assert METHODS[name].name == name
    assert METHODS[name].doc.startswith("units go by: ")


def test_the_options_know_which_names_read_inputs() -> None:
    known = {"method": METHODS, "criterion": CRITERIA, "affinity": AFFINITIES,
             "compensate": COMPENSATORS}  # fmt: skip
    assert all(names <= set(known[option]) for option, names in NEEDS_DATA.items())
    names = BY_WEIGHTS | SEEING | {"functional", TRYING}
    assert names == {"auto", *METHODS, *CRITERIA, *AFFINITIES}


# ---- in a whole run ---------------------------------------------------------------------------


def samples(model: Model, *shape: int) -> CalibrationData:
    rng = np.random.default_rng(0)
    return open_calibration(rng.standard_normal((32, *shape)).astype(np.float32), model)


def scores_of(model: Model) -> dict[str, FloatArray]:
    """A score for every weight, larger for earlier channels."""
    return {
        t.name: np.arange(t.dims[0], 0.0, -1.0)
        for t in model.proto.graph.initializer
        if len(t.dims) > 1
    }


@pytest.mark.parametrize("name", [*CRITERIA, "folding", "random"])
@pytest.mark.parametrize(
    "net", ["residual_projection", pytest.param("depthwise_separable", marks=pytest.mark.slow)]
)
def test_every_check_holds_for_units_chosen_by(name: str, net: str, tmp_path: Path) -> None:
    onnx.save(NETS[net](), tmp_path / "a.onnx")
    model = onnx_scsp.load(tmp_path / "a.onnx")
    choices = onnx_scsp.Choices(importance=scores_of(model) if name == "importance" else {})
    data = samples(model, 3, 8, 8) if name in SEEING else None
    result = onnx_scsp.prune(
        tmp_path / "a.onnx", tmp_path / "b.onnx", replace(HALF, method=name),
        calibration=data, choices=choices, plan_out=tmp_path / "p.json",
    )  # fmt: skip
    assert result.report
    assert result.after.macs < result.before.macs
    assert result.plan.config["method"] == name
    plan = onnx_scsp.read_plan(tmp_path / "p.json")
    assert onnx_scsp.verify(tmp_path / "a.onnx", tmp_path / "b.onnx", plan)


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_decides_within_clusters(name: str) -> None:
    model = from_proto(NETS["residual_projection"]())
    choices = onnx_scsp.Choices(importance=scores_of(model) if name == "importance" else {})
    data = samples(model, 3, 8, 8) if name in SEEING else None
    config = replace(HALF, method="one-per-cluster", criterion=name)
    plan = onnx_scsp.make_plan(model, config, choices=choices, calibration=data)
    assert plan.cuts
    assert plan.config["criterion"] == name


def test_given_scores_decide_over_a_whole_network() -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")
    choices = onnx_scsp.Choices(importance=scores_of(model))
    plan = onnx_scsp.make_plan(model, replace(HALF, method="importance"), choices=choices)
    assert plan.cuts
    assert all(cut.keep == tuple(range(len(cut.keep))) for cut in plan.cuts)


def test_affinities_change_what_clusters() -> None:
    model = from_proto(NETS["residual_projection"]())
    data = samples(model, 3, 8, 8)
    config = replace(HALF, method="one-per-cluster", compensate="none")
    plans = [
        onnx_scsp.make_plan(model, replace(config, affinity=name), calibration=data)
        for name in AFFINITIES
    ]
    assert plans[0].cuts != plans[1].cuts


@pytest.mark.parametrize("option", ["method", "criterion"])
@pytest.mark.parametrize("name", sorted(SEEING))
def test_criteria_that_read_inputs_are_refused_without_any(option: str, name: str) -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")
    config = replace(HALF, **{option: name})
    with pytest.raises(ConfigError, match=f"--{option} {name} works from sample inputs"):
        onnx_scsp.make_plan(model, config)


def test_the_scale_of_a_folded_normalisation_is_asked_for_in_vain() -> None:
    model = onnx_scsp.load(DIGITS / "digits_folded.onnx")
    with pytest.raises(ConfigError, match="it may be folded into the weights"):
        onnx_scsp.make_plan(model, replace(HALF, method="gamma"))


def test_an_extra_criterion_is_a_method_too() -> None:
    model = onnx_scsp.load(DIGITS / "digits_bn.onnx")

    def late(table: UnitTable) -> FloatArray:
        """Later units are worth more."""
        return table.units + 1.0

    choices = onnx_scsp.Choices(criteria=CRITERIA | {"late": late})
    plan = onnx_scsp.make_plan(model, replace(HALF, method="late"), choices=choices)
    assert all(
        cut.keep == tuple(range(cut.n_units - len(cut.keep), cut.n_units)) for cut in plan.cuts
    )


@pytest.mark.parametrize("option", ["method", "criterion"])
def test_what_a_criterion_lacks_is_said_before_anything_is_observed(option: str) -> None:
    coupling = find_coupling(onnx_scsp.load(DIGITS / "digits_folded.onnx"))
    config = replace(HALF, **{"method": "scsp", option: "gamma"})

    def observe(_: object) -> Evidence:
        raise AssertionError("observed")

    with pytest.raises(ConfigError, match="'gamma'"):
        plan_cuts(coupling, config, observe=observe)
