"""Rates of layers, from tables of machines whose rates are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.measure.probes import probe
from onnx_scsp.plan.widths import layer_kinds
from onnx_scsp.timing import KINDS, MachineTable, Staircase, rates, shipped_table
from onnx_scsp.timing.table import REFERENCE
from timing.staircases import linear, table

PER_MAC = {"dense": 1e-8, "pointwise": 2e-8, "depthwise": 5e-8, "grouped": 3e-8, "matmul": 4e-8}


def machine(per_mac: Mapping[str, float], folder: Path) -> MachineTable:
    """The table of a machine that takes so long for every MAC, by the probes that are timed."""

    def ms(kind: str, width: int) -> float:
        path = folder / f"{kind}_{width}.onnx"
        onnx.save(onnx.load_from_string(probe(kind, width)), path)
        coupling = find_coupling(onnx_scsp.load(path))
        kinds = layer_kinds(coupling)
        return sum(per_mac[kinds[term.node].kind] * term.macs for term in coupling.costs)

    kinds = {}
    for kind in KINDS:
        reference = REFERENCE.get(kind, 64)
        widths = tuple(sorted({16, 32, reference}))
        times = tuple(ms(kind, width) for width in widths)
        kinds[kind] = Staircase(widths, times, ms(kind, 0), reference)
    return MachineTable(kinds, "a processor", "1.0", 1, "cpu")


def test_the_rates_of_a_machine_are_found_in_its_table(tmp_path: Path) -> None:
    found = rates(machine(PER_MAC, tmp_path))
    expected = {**PER_MAC, "joined": PER_MAC["pointwise"]}
    assert dict(found.per_mac) == pytest.approx(expected)
    assert found.per_value == pytest.approx(9 * PER_MAC["depthwise"])


def test_what_does_not_show_in_the_timings_costs_no_less_than_a_pointwise_layer(
    tmp_path: Path,
) -> None:
    found = rates(machine({**PER_MAC, "depthwise": 0.0, "grouped": 0.0}, tmp_path))
    assert found.per_mac["depthwise"] == found.per_mac["grouped"] == found.per_mac["pointwise"]


def test_a_table_without_any_difference_still_has_rates() -> None:
    found = rates(table(lambda _: 0.0))
    assert min(found.per_mac.values()) > 0.0
    assert found.per_value > 0.0


def test_twice_as_slow_is_twice_the_rate() -> None:
    once, twice = rates(table(linear)), rates(table(lambda w: 2.0 * w))
    assert {k: 2.0 * v for k, v in once.per_mac.items()} == pytest.approx(dict(twice.per_mac))


def test_by_the_shipped_table_depthwise_layers_take_longest_for_a_mac() -> None:
    found = rates(shipped_table()).per_mac
    assert max(found, key=found.__getitem__) == "depthwise"
