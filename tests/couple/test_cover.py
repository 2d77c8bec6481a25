"""Demands: which units must not all go."""

from __future__ import annotations

import numpy as np

from onnx_scsp.couple.cover import Demand, fewest, find_demands, first_unmet
from onnx_scsp.types import ChannelGroup


def group(profile: list[int]) -> ChannelGroup:
    return ChannelGroup("g00", len(profile), np.array(profile), (), (), True, 0)


def demands_of(tensors: dict, activations: dict) -> list[tuple[str, list[int]]]:
    found = find_demands(tensors, activations, (group([0, 1, 2]),), {"g00": 0})
    return [(demand.what, demand.units.tolist()) for demand in found]


def test_an_axis_of_units_alone_demands_one_of_them() -> None:
    units = np.array([1, 0, 1])
    assert demands_of({"w": {"": {0: units}}}, {}) == [
        ("axis 0 of tensor 'w'", [0, 1]),
        ("group g00", [0, 1, 2]),
    ]


def test_an_axis_with_entries_that_stay_demands_nothing() -> None:
    assert demands_of({"w": {"": {0: np.array([1, -1])}}}, {}) == [("group g00", [0, 1, 2])]


def test_every_part_of_a_grouped_reader_demands_its_own() -> None:
    rows = np.array([[0, 1], [2, 2]])
    found = demands_of({"w": {"": {1: rows}}}, {})
    assert [units for _, units in found] == [[0, 1], [2], [0, 1, 2]]


def test_an_activation_demands_its_channels() -> None:
    found = demands_of({}, {"h": np.array([[[2]], [[1]]])})
    assert found[0] == ("the channels of 'h'", [1, 2])


def test_equal_demands_are_stated_once() -> None:
    units = np.array([0, 1, 2])
    assert demands_of({"w": {"": {0: units}}}, {"h": units[::-1]}) == [
        ("axis 0 of tensor 'w'", [0, 1, 2])
    ]


DEMANDS = (Demand("a", np.array([0, 1])), Demand("b", np.array([2])))


def test_the_first_unmet_demand_is_named() -> None:
    assert first_unmet(DEMANDS, np.array([True, False, True])) is None
    assert first_unmet(DEMANDS, np.array([True, True, False])) is DEMANDS[1]
    assert first_unmet(DEMANDS, np.array([False, False, False])) is DEMANDS[0]


def test_the_fewest_units_drop_the_heaviest_of_each_demand() -> None:
    weight = np.array([1.0, 5.0, 9.0])
    keep = fewest(DEMANDS, (group([0, 1, 2]),), {"g00": 0}, weight)
    assert keep.tolist() == [True, False, True]


def test_one_unit_of_a_profile_is_enough_to_begin_with() -> None:
    demands = (Demand("g", np.array([0, 1, 2])),)
    keep = fewest(demands, (group([0, 0, 0]),), {"g00": 0}, np.ones(3))
    assert keep.sum() == 1
