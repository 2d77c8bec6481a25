"""The machine table as a record and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_scsp.errors import ConfigError
from onnx_scsp.timing import KINDS, Staircase, shipped_table, table_from_json, table_to_json
from onnx_scsp.timing.table import rounded
from timing.staircases import WIDTHS, linear, slow_if_odd, stairs, steps_of_16, table


def test_where_every_channel_costs_the_same_a_width_costs_its_channels() -> None:
    found = stairs(linear)
    assert [found.channels(w) for w in (1, 7, 64, 200, 256)] == pytest.approx([1, 7, 64, 200, 256])


def test_what_lies_on_one_step_costs_the_same() -> None:
    found = stairs(steps_of_16)
    assert found.channels(33) == pytest.approx(found.channels(48)) == pytest.approx(48.0)


def test_beyond_what_was_measured_the_cost_goes_on_rising_as_before() -> None:
    assert stairs(linear).channels(512) == pytest.approx(512.0)


def test_between_measured_widths_the_cost_is_linear() -> None:
    found = Staircase((8, 16, 64), (1.08, 1.16, 1.64), 1.0)
    assert found.channels(40) == pytest.approx(40.0)


def test_no_channels_cost_nothing() -> None:
    assert stairs(linear).channels(0) == 0.0


@given(st.integers(1, 600))
def test_every_width_costs_something(width: int) -> None:
    assert stairs(lambda _: 0.0).channels(width) > 0.0


def test_a_table_survives_its_json() -> None:
    before = table(slow_if_odd)
    after = table_from_json(table_to_json(before), "t")
    assert table_to_json(after) == table_to_json(before)
    assert after.sha256 == before.sha256


def test_the_hash_is_of_the_figures_not_of_where_they_come_from() -> None:
    found = table(linear)
    assert replace(found, origin="elsewhere").sha256 == found.sha256
    assert replace(found, threads=2).sha256 != found.sha256


def test_times_are_kept_to_three_digits() -> None:
    assert [rounded(x) for x in (0.123456, 12.3456, 0.00123456)] == [0.123, 12.3, 0.00123]


def test_the_shipped_table_has_every_kind_and_says_that_it_is_shipped() -> None:
    found = shipped_table()
    assert set(found.kinds) == set(KINDS)
    assert found.origin == "shipped"


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(schema=2),
        lambda d: d.pop("threads"),
        lambda d: d.update(threads=0),
        lambda d: d["kinds"].pop("dense"),
        lambda d: d["kinds"]["dense"]["ms"].pop(),
        lambda d: d["kinds"]["dense"]["widths"].reverse(),
        lambda d: d["kinds"]["dense"].update(reference=1000),
        lambda d: d["kinds"]["dense"]["ms"].__setitem__(0, "fast"),
        lambda d: d["kinds"]["dense"]["ms"].__setitem__(0, -1.0),
        lambda d: d["kinds"]["dense"].update(base_ms=float("nan")),
        lambda d: d["kinds"].update(dense=[]),
    ],
)
def test_a_damaged_table_is_refused_by_name(damage) -> None:
    data = json.loads(table_to_json(table(linear)))
    damage(data)
    with pytest.raises(ConfigError, match=r"t\.json is no"):
        table_from_json(json.dumps(data), "t.json")


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"t\.json is no valid machine table"):
        table_from_json("[" * 100_000, "t.json")


def test_the_widths_of_these_tests_hold_the_reference() -> None:
    assert 64 in WIDTHS
