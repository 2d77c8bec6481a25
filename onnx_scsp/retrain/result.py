"""What retraining hands back. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_scsp.types import Cost, PrunePlan, VerifyReport


@dataclass(frozen=True, slots=True, eq=False)
class RetrainResult:
    """What `soft_retrain` did.

    Attributes:
        output: The written file.
        plan: The plan that was carried out, in the words of the original file.
        before: Cost of the original.
        after: Cost of the output, measured on the written file.
        target: Budget name and value, ("", 0.0) for a plan of the caller's.
        achieved: The same figure, measured.
        report: The checks.
        metric: Name of the metric.
        metric_before: The original's on the held-out samples; None where none are held out.
        metric_after: The result's.
        divergence: Largest difference between PyTorch and onnxruntime, relative to the largest
            output.
        records: One per epoch.
        seconds: Wall time by stage.
        layers: Node name -> (channels before, channels after).
    """

    output: Path
    plan: PrunePlan
    before: Cost
    after: Cost
    target: tuple[str, float]
    achieved: float
    report: VerifyReport
    metric: str
    metric_before: float | None
    metric_after: float | None
    divergence: float
    records: tuple[Mapping[str, Any], ...]
    seconds: Mapping[str, float]
    layers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
