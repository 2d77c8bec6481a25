"""channel group + weights -> unit tables: who looks like whom, and how much each one carries."""

from __future__ import annotations

from onnx_scsp.describe.affinities import AFFINITIES, Affinity
from onnx_scsp.describe.criteria import CRITERIA, Criterion
from onnx_scsp.describe.tables import Weights, unit_tables

__all__ = ["AFFINITIES", "CRITERIA", "Affinity", "Criterion", "Weights", "unit_tables"]
