"""One file through onnx_scsp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx_scsp
from onnx_scsp.couple import find_coupling
from onnx_scsp.ops import RULES, approximating
from tools.coverage.driver import RATIO
from tools.coverage.holding import causes
from tools.coverage.widths import Widths, widths_kept

ORACLES = ("masked twin", "permutation")


def count(path: Path) -> tuple[int, int]:
    """MACs and float parameters of a file, by onnx_scsp's counter."""
    return census(path)[:2]


def census(path: Path) -> tuple[int, int, Widths]:
    """The same, and the filters of every layer."""
    found = onnx_scsp.find_groups(onnx_scsp.load(path))
    return found.macs, found.params, {layer.node: layer.channels for layer in found.layers}


def prune(
    path: Path,
    output: Path,
    *,
    approximate: bool = False,
    ratio: float = RATIO,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Cuts a file and says what came of it.

    Args:
        path: Input file.
        output: Scratch output file.
        approximate: Whether normalisations over channels are cut, too.
        ratio: Share of channels that is to stay.
        shapes: Of inputs, where the default sizes will not do.

    Returns:
        The figures of a record.
    """
    rules = approximating(RULES) if approximate else RULES
    coupling = find_coupling(onnx_scsp.load(path), rules=rules, input_shapes=shapes)
    found = coupling.map
    record: dict[str, Any] = {
        "macs": found.macs,
        "params": found.params,
        "no_rule": list(found.ops_without_rule),
        "layers": len(found.layers),
        "prunable_layers": sum(layer.free > 0 for layer in found.layers),
    }
    # random weights: sample inputs would say nothing, and what can be cut does not depend on them
    config = onnx_scsp.PruneConfig(
        target="ratio", value=ratio, align=1, synthetic=False, approximate=approximate
    )
    try:
        checking = onnx_scsp.VerifyConfig(threads=1, input_shapes=shapes)
        result = onnx_scsp.prune(path, output, config, verify_config=checking)
    except onnx_scsp.ScspError as error:
        kept = causes(coupling, None)
        return record | {"outcome": "error", "error": f"{type(error).__name__}: {error}", **kept}
    checks = result.report.checks
    oracles = [c.value for c in checks if c.name in ORACLES and c.value is not None]
    return record | {
        "outcome": "ok",
        "macs_left": result.after.macs / max(result.before.macs, 1),
        "params_left": result.after.params / max(result.before.params, 1),
        "touched": sum(old != new for old, new in result.layers.values()),
        "layers": len(result.layers),
        "checks": [sum(c.passed for c in checks), len(checks)],
        "largest_error": max(oracles, default=None),
        "oracles": {c.name: c.value for c in checks if c.limit is not None},
        "stages": dict(result.seconds),
        "ratio": ratio,
        **widths_kept(
            {node: old for node, (old, _) in result.layers.items()},
            {node: new for node, (_, new) in result.layers.items()},
            ratio,
        ),
        **causes(coupling, result.plan),
    }
