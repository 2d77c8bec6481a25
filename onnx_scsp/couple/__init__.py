"""graph -> channel groups: runs channel labels through the graph and closes the facts."""

from __future__ import annotations

from onnx_scsp.couple.census import CostTerm
from onnx_scsp.couple.groups import Coupling, find_coupling, find_groups, unmergeable

__all__ = ["CostTerm", "Coupling", "find_coupling", "find_groups", "unmergeable"]
