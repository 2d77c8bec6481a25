"""A cut that is made for timing only."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from onnx_scsp.couple import Coupling
from onnx_scsp.ops import RuleTable
from onnx_scsp.pipeline import planned_macs, save
from onnx_scsp.results import PrunedModel
from onnx_scsp.surgery import operate
from onnx_scsp.types import PrunePlan

Found = TypeVar("Found")


def with_candidate(
    coupling: Coupling, rules: RuleTable, plan: PrunePlan, use: Callable[[Path], Found]
) -> Found:
    """Cuts a model as a plan says, without its repair: that costs no time in the runtime.

    Args:
        coupling: The model.
        rules: Operator rules.
        plan: The plan.
        use: Called with the file; it is gone afterwards.

    Returns:
        What `use` returns.
    """
    proto = operate(coupling, rules, plan, same_graph=True)  # who calls has checked the hash
    pruned = PrunedModel(coupling.model, proto, plan, planned_macs(coupling, plan))
    with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
        path = Path(folder) / "candidate.onnx"
        save(pruned, path)
        return use(path)
