"""What the recipe hands back: a plan carried out, and the figures of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from onnx_scsp.compensate import LayerFit
from onnx_scsp.errors import VerifyError
from onnx_scsp.graph.model import Model
from onnx_scsp.types import Cost, PrunePlan, VerifyReport


@dataclass(frozen=True, slots=True, eq=False)
class PrunedModel:
    """A plan carried out, not yet written.

    Attributes:
        source: The model that was pruned.
        proto: The result, or None where the plan removes nothing.
        plan: The plan.
        planned_macs: MACs that the plan foresees.
        repaired: The source with the constants that the repair refitted, before the cut; or None.
        fits: What the repair did to each layer.
    """

    source: Model
    proto: onnx.ModelProto | None
    plan: PrunePlan
    planned_macs: int
    repaired: Model | None = None
    fits: tuple[LayerFit, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PruneResult:
    """What `prune` did.

    Attributes:
        output: The written file.
        plan: The plan.
        before: Cost of the input.
        after: Cost of the output, measured on the written file.
        target: Budget name and value.
        achieved: The same figure, measured.
        report: The checks.
        seconds: Wall time by stage.
        layers: Node name -> (channels before, channels after), for producing nodes.
        fits: What the repair did to each layer, where there was one.
    """

    output: Path
    plan: PrunePlan
    before: Cost
    after: Cost
    target: tuple[str, float]
    achieved: float
    report: VerifyReport
    seconds: Mapping[str, float]
    layers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    fits: tuple[LayerFit, ...] = ()


def require_passed(report: VerifyReport) -> None:
    """Lets a result through only if every check has passed.

    Raises:
        VerifyError: One has not.
    """
    if not report:
        failed = "; ".join(
            f"{check.name}: {check.detail}"
            + (
                f" ({check.value:.3g}, limit {check.limit:.3g})"
                if check.value is not None and check.limit is not None
                else ""
            )
            for check in report.failed
        )
        raise VerifyError(f"the result fails verification and was not written: {failed}")
