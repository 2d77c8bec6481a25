"""The gate: a result that is slower than its original is not let through.

A model of more than a gigabyte is let through untimed, and the check says so: the runtime's own
copy of the weights would more than double what the whole run takes in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx_scsp.figures import input_bytes
from onnx_scsp.graph.model import Model
from onnx_scsp.measure.compare import Compare
from onnx_scsp.types import Check

NAME = "never slower"
_TIMED_BYTES = 1 << 30


def never_slower(compare: Compare, threads: int) -> Callable[[Model, Model], Check]:
    """A check of the original and a result.

    Args:
        compare: How two models compare.
        threads: Intra-op threads that it measures with, for the message.

    Returns:
        The check: passed unless the file is slower beyond the noise floor.
    """

    def gate(source: Model, result: Model) -> Check:
        size = input_bytes(source)
        if size > _TIMED_BYTES:
            told = f"not timed: the original has {size / 1e9:.1f} GB; `onnx-scsp bench` times it"
            return Check(NAME, True, None, None, told)
        seen = compare(source, result)
        detail = (
            f"latency {seen.ratio:.3f} of the original's, {seen.b_ms:.4g} ms beside "
            f"{seen.a_ms:.4g} ms, {threads} thread(s)"
        )
        if seen.is_slower:
            detail += "; widen what does not pay with --gate widen, or accept it with --no-gate"
        limit = 1.0 + seen.noise
        return Check(NAME, not seen.is_slower, round(seen.ratio, 4), round(limit, 4), detail)

    return gate
