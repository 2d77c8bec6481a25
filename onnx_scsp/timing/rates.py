"""What single layers take, by a machine table alone: rough, but the same wherever the table is.

The probes behind a table are small networks of known size (`onnx_scsp.measure.probes`). At width w,
with FAN = 64 channels around it and S x S positions,

    per MAC    = (ms(w) - base_ms) / MACs(w)                  dense, pointwise, matmul
    depthwise  = (above_depthwise(w) - above_pointwise(w)) / (9 w S^2)
    grouped    = (above_grouped(w) - ms of its two 1 x 1 layers) / (9 GROUPS w^2 S^2)
    per value  = (above_depthwise(w) - above_pointwise(w)) / (w S^2)

`above` is the time above `base_ms`. An operator that is no layer and writes its values anew (a
product, a sum, a Concat) is as bound by memory as a depthwise layer is, and taken to cost as much
for each value. So is reading a weight: the probes have few of them and many positions, which hides
what layers with many weights and few positions (the last stages of a network) wait for.

    per weight = per value
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx_scsp.timing.table import MachineTable, Staircase

FAN, GROUPS = 64, 8
SIDE: Mapping[str, int] = MappingProxyType(
    {"dense": 14, "pointwise": 28, "depthwise": 28, "grouped": 14}
)
ROWS = 784


@dataclass(frozen=True, slots=True)
class Rates:
    """Milliseconds by the size of what is computed.

    Attributes:
        per_mac: Kind of layer -> milliseconds for each MAC.
        per_value: Milliseconds for each value that an operator which is no layer writes.
        per_weight: Milliseconds for each weight that a layer reads once, beside its MACs.
    """

    per_mac: Mapping[str, float]
    per_value: float
    per_weight: float


def rates(table: MachineTable) -> Rates:
    """What layers of each kind take, at widths where the scatter of the timings hardly shows.

    Where the table says that a rarer kind costs less than a 1 x 1 layer does for each MAC, it has
    not been measured well, and is taken to cost as much.
    """
    pointwise = _above(table, "pointwise") / (2 * FAN * SIDE["pointwise"] ** 2)
    dense = _above(table, "dense") / (2 * 9 * FAN * SIDE["dense"] ** 2)
    matmul = _above(table, "matmul") / (2 * FAN * ROWS)
    around = 2 * FAN * SIDE["depthwise"] ** 2 * pointwise
    depthwise = (_above(table, "depthwise") - around) / (9 * SIDE["depthwise"] ** 2)
    stairs = table.kinds["grouped"]
    width, area = stairs.reference, SIDE["grouped"] ** 2
    chain = _at(stairs, width) - 2 * FAN * GROUPS * width * area * pointwise
    grouped = chain / (9 * GROUPS * width**2 * area)
    least = max(pointwise, 1e-12)
    per_mac = {
        "pointwise": least,
        "joined": least,
        "dense": max(dense, 1e-12),
        "matmul": max(matmul, 1e-12),
        "depthwise": max(depthwise, least),
        "grouped": max(grouped, least),
    }
    per_value = 9 * per_mac["depthwise"]
    return Rates(per_mac, per_value, per_weight=per_value)


def _above(table: MachineTable, kind: str) -> float:
    """Milliseconds above the base for each channel of the widest probe."""
    stairs = table.kinds[kind]
    return _at(stairs, stairs.widths[-1]) / stairs.widths[-1]


def _at(stairs: Staircase, width: int) -> float:
    return stairs.ms[stairs.widths.index(width)] - stairs.base_ms
