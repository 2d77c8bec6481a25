"""Records of what things cost in time, and what follows from them; nothing is measured here."""

from __future__ import annotations

from onnx_scsp.timing.layers import DeviceTable, LayerShape, LayerTimes, device_table
from onnx_scsp.timing.rates import Rates, rates
from onnx_scsp.timing.shipped import shipped_table
from onnx_scsp.timing.table import KINDS, MachineTable, Staircase, table_from_json, table_to_json
from onnx_scsp.timing.widths import Use, allowed_counts, good_widths, usual_step

__all__ = [
    "KINDS",
    "DeviceTable",
    "LayerShape",
    "LayerTimes",
    "MachineTable",
    "Rates",
    "Staircase",
    "Use",
    "allowed_counts",
    "device_table",
    "good_widths",
    "rates",
    "shipped_table",
    "table_from_json",
    "table_to_json",
    "usual_step",
]
