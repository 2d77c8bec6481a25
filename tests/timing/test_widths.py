"""Which widths pay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_scsp.timing import Use, allowed_counts, good_widths, shipped_table, usual_step
from onnx_scsp.timing.widths import grid, thinned
from timing.staircases import linear, slow_if_odd, steps_of_16, table


def test_of_one_step_the_widest_is_good() -> None:
    good = good_widths(table(steps_of_16), "dense", 128)
    assert good == (16, 32, 48, 64, 80, 96, 112, 128)


def test_where_every_channel_pays_every_width_of_the_grid_is_good() -> None:
    assert good_widths(table(linear), "dense", 256) == grid(256)


def test_a_width_that_costs_more_than_a_wider_one_is_not_good() -> None:
    bump = table(lambda w: 200.0 if w == 60 else float(w))
    assert 60 not in good_widths(bump, "dense")
    assert 56 in good_widths(bump, "dense")


def test_a_width_that_is_slow_by_chance_does_not_hide_those_below() -> None:
    bump = table(lambda w: 63.0 if w == 48 else float(w))
    assert {32, 36, 40, 44} <= set(good_widths(bump, "dense"))


def test_single_channels_are_never_among_the_widths_beyond_the_first_few() -> None:
    assert all(width % 4 == 0 for width in good_widths(table(slow_if_odd), "dense") if width > 2)


@given(st.integers(0, 2**32 - 1))
def test_a_little_noise_decides_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noisy = table(lambda w: steps_of_16(w) * (1.0 + 0.015 * rng.uniform(-1.0, 1.0)))
    assert good_widths(noisy, "dense", 128) == good_widths(table(steps_of_16), "dense", 128)


def test_much_noise_does_decide() -> None:
    rng = np.random.default_rng(0)
    noisy = table(lambda w: steps_of_16(w) * (1.0 + 0.3 * rng.uniform(-1.0, 1.0)))
    assert good_widths(noisy, "dense", 128) != good_widths(table(steps_of_16), "dense", 128)


@pytest.mark.parametrize(("cost", "step"), [(linear, 8), (steps_of_16, 16)])
def test_the_usual_step(cost, step: int) -> None:
    assert usual_step(table(cost), "dense") == step


def test_the_whole_width_is_always_there() -> None:
    assert thinned([], 7, float) == [7]
    assert allowed_counts(table(steps_of_16), [Use("dense", 1, 1.0)], 37)[-1] == 37


def test_units_that_stand_for_several_channels_are_counted_as_such() -> None:
    counts = allowed_counts(table(steps_of_16), [Use("pointwise", 4, 1.0)], 32)
    assert counts == (4, 8, 12, 16, 20, 24, 28, 32)


def test_beyond_what_was_measured_the_usual_step_goes_on() -> None:
    counts = allowed_counts(table(steps_of_16), [Use("dense", 1, 1.0)], 512)
    assert [count for count in counts if count > 256] == list(range(272, 513, 16))


def test_the_weightiest_layer_leads_and_the_others_count() -> None:
    mixed = table(linear, dense=steps_of_16)
    heavy = allowed_counts(mixed, [Use("dense", 1, 10.0), Use("matmul", 1, 0.1)], 64)
    light = allowed_counts(mixed, [Use("dense", 1, 0.1), Use("matmul", 1, 10.0)], 64)
    assert heavy == (16, 32, 48, 64)
    assert len(light) > len(heavy)


@given(st.integers(1, 600), st.integers(1, 8))
def test_counts_rise_and_end_at_the_whole(size: int, per_unit: int) -> None:
    counts = allowed_counts(shipped_table(), [Use("dense", per_unit, 1.0)], size)
    assert list(counts) == sorted(set(counts))
    assert counts[-1] == size
    assert counts[0] > 0


def test_the_shipped_table_knows_what_blocked_layouts_like() -> None:
    # depthwise chains leave the blocked layout where the width is no multiple of 4
    stairs = shipped_table().kinds["depthwise"]
    assert stairs.channels(63) > 1.2 * stairs.channels(64)
    assert 48 in good_widths(shipped_table(), "dense")
    assert 40 not in good_widths(shipped_table(), "dense")


def test_groups_may_be_a_few_channels_wide_other_layers_not() -> None:
    assert good_widths(table(linear), "grouped")[:3] == (1, 2, 4)
    assert good_widths(table(linear), "dense")[0] == 4
