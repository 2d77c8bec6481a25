"""The gate: a result that is slower than its original is not let through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnx_scsp.graph.model import Model
from onnx_scsp.measure.compare import Compare
from onnx_scsp.types import Check

NAME = "never slower"


def never_slower(compare: Compare, threads: int) -> Callable[[Model, Path], Check]:
    """A check of the original and a finished file.

    Args:
        compare: How two models compare.
        threads: Intra-op threads that it measures with, for the message.

    Returns:
        The check: passed unless the file is slower beyond the noise floor.
    """

    def gate(source: Model, path: Path) -> Check:
        seen = compare(source, path)
        detail = (
            f"latency {seen.ratio:.3f} of the original's, {seen.b_ms:.4g} ms beside "
            f"{seen.a_ms:.4g} ms, {threads} thread(s)"
        )
        if seen.is_slower:
            detail += "; widen what does not pay with --gate widen, or accept it with --no-gate"
        limit = 1.0 + seen.noise
        return Check(NAME, not seen.is_slower, round(seen.ratio, 4), round(limit, 4), detail)

    return gate
