"""Scores of units, and methods made of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from onnx_scsp.calibration import open_calibration  # noqa: E402
from onnx_scsp.config import PruneConfig  # noqa: E402
from onnx_scsp.couple import find_coupling  # noqa: E402
from onnx_scsp.errors import ConfigError  # noqa: E402
from onnx_scsp.plan import METHODS, Choices, plan_cuts  # noqa: E402
from onnx_scsp.retrain.feed import Feed, open_feed  # noqa: E402
from onnx_scsp.retrain.lift import lift  # noqa: E402
from onnx_scsp.retrain.planning import (  # noqa: E402
    Planner,
    on_model,
    plan_from_state,
    plan_to_state,
    soft_config,
)
from onnx_scsp.retrain.scores import (  # noqa: E402
    class_gaps,
    filter_norms,
    norm_scales,
    observed_values,
    scored_method,
)
from onnx_scsp.retrain.soften import kept_by_group  # noqa: E402
from onnx_scsp.types import Role  # noqa: E402
from retrain.small_nets import images, plain, saved  # noqa: E402

HALF = PruneConfig(target="ratio", value=0.5, compensate="none", synthetic=False, align=1)
EMPTY = Feed(np.arange(0), None, {}, None)


def values_of(coupling) -> dict[str, np.ndarray]:
    constants = coupling.walk.constants
    return {name: np.array(constants.array(name)) for name in constants.names()}


@pytest.fixture
def coupling(tmp_path):
    return find_coupling(saved(plain(norm=True), tmp_path / "net.onnx"))


def test_filter_norms_are_squared_norms_of_the_filters(coupling) -> None:
    values, group = values_of(coupling), coupling.map.groups[0]
    weight = next(m.tensor for m in group.members if m.role is Role.MAKES)
    expected = np.square(values[weight].astype(float)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(filter_norms(coupling, values, {})[group.id], expected)


def test_norm_scales_are_squared_scales(coupling) -> None:
    values, group = values_of(coupling), coupling.map.groups[0]
    gamma = coupling.map.chains[0].norm_tensors[0]
    np.testing.assert_allclose(
        norm_scales(coupling, values, {})[group.id], np.square(values[gamma].astype(float))
    )


def test_a_network_without_normalisation_is_scored_by_filter_norms(tmp_path) -> None:
    coupling = find_coupling(saved(plain(), tmp_path / "net.onnx"))
    values = values_of(coupling)
    for group, score in norm_scales(coupling, values, {}).items():
        np.testing.assert_array_equal(score, filter_norms(coupling, values, {})[group])


def test_class_gaps_sum_squared_differences_of_class_means(coupling) -> None:
    name = observed_values(coupling)[0]
    rng = np.random.default_rng(0)
    means = {value: rng.random((3, 8)) for value in observed_values(coupling)}
    found = class_gaps(coupling, values_of(coupling), means)
    m = means[name]
    pairs = [(m[a] - m[b]) ** 2 for a in range(3) for b in range(a)]
    np.testing.assert_allclose(found[coupling.map.groups[0].id], np.sum(pairs, axis=0))


def test_a_method_of_scores_keeps_the_largest(coupling) -> None:
    scores = {g.id: np.arange(g.n_units, dtype=float) for g in coupling.map.groups}
    method = scored_method("mine", scores)
    config = replace(HALF, method="mine")
    plan = plan_cuts(coupling, config, choices=Choices(methods={**METHODS, "mine": method}))
    assert {cut.keep for cut in plan.cuts} == {(4, 5, 6, 7)}


def test_a_method_of_scores_falls_back_to_even_loss_without_any(coupling) -> None:
    method = scored_method("mine", {g.id: np.zeros(g.n_units) for g in coupling.map.groups})
    config = replace(HALF, method="mine")
    plan = plan_cuts(coupling, config, choices=Choices(methods={**METHODS, "mine": method}))
    assert {len(cut.keep) for cut in plan.cuts} == {4}


@pytest.mark.parametrize("select", ["scsp", "one-per-cluster", "filter-norm", "bn-scale"])
def test_a_planner_follows_the_weights_and_meets_the_budget(coupling, select: str) -> None:
    lifted = lift(coupling.model)
    planner = Planner(coupling, soft_config(HALF, select, "none", has_data=True), select, EMPTY)
    first = kept_by_group(coupling, planner(lifted))
    assert all(mask.sum() == 4 for mask in first.values())
    group = coupling.map.groups[0]
    with torch.no_grad():  # what stayed becomes worthless
        for member in group.members:
            if member.role is not Role.READS and "mean" not in member.tensor:
                tensor = lifted.constants[member.tensor]
                tensor[torch.from_numpy(first[group.id])] *= 1e-3
    second = kept_by_group(coupling, planner(lifted))[group.id]
    assert second.sum() == 4
    both = second & first[group.id]
    # methods of clusters judge a unit by its cluster, so some of the worthless stay
    assert both.sum() < 4 if select in METHODS else not both.any()


def test_classes_are_told_apart_by_the_unit_that_shows_them(tmp_path) -> None:
    model = saved(plain(), tmp_path / "net.onnx")
    coupling, x = find_coupling(model), images(64)
    labels = (x.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    x += labels[:, None, None, None] * 3.0
    feed = open_feed(open_calibration(x, model), labels)
    planner = Planner(coupling, soft_config(HALF, "class-gap", "none", has_data=True),
                      "class-gap", feed)  # fmt: skip
    plan = planner(lift(model))
    assert all(len(cut.keep) == 4 for cut in plan.cuts)
    with pytest.raises(ConfigError, match="give --labels"):
        replace(planner, feed=EMPTY)(lift(model))


def test_cuts_go_through_json(coupling) -> None:
    config = replace(HALF, method="scsp", compensate="merge", merge_threshold=0.0)
    plan = plan_cuts(coupling, config)
    assert any(cut.absorbed_by for cut in plan.cuts)
    state = plan_to_state(plan)
    assert state is not None
    again = plan_from_state(json.loads(json.dumps(state)), coupling, config)
    assert (again.cuts, again.timing) == (plan.cuts, plan.timing)


def test_a_plan_of_another_network_is_refused(coupling, tmp_path) -> None:
    plan = plan_cuts(coupling, replace(HALF, method="l2"))
    other = find_coupling(saved(plain((12, 8)), tmp_path / "other.onnx"))
    with pytest.raises(ConfigError, match="is not a group of the network"):
        on_model(plan, other)
