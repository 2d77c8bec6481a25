"""Which module imports which, read from the source without running it."""

from __future__ import annotations

import ast
from pathlib import Path

import onnx_scsp

PACKAGE = Path(onnx_scsp.__file__).parent
FREE = frozenset({"blas", "errors", "types", "config", "units"})
RETRAIN = "retrain"
TRAINING = ("torch", "lightning_fabric", "safetensors")
MAY_IMPORT: dict[str, frozenset[str]] = {
    "graph": frozenset(),
    "ops": frozenset({"graph"}),
    "couple": frozenset({"graph", "ops"}),
    "describe": frozenset(),
    "partition": frozenset(),
    "observe": frozenset({"graph", "couple", "evaluate"}),
    "timing": frozenset(),
    "plan": frozenset({"graph", "couple", "describe", "observe", "partition", "timing"}),
    "compensate": frozenset({"graph", "couple", "observe", "surgery"}),
    "invented": frozenset({"graph", "couple", "calibration", "inputs", "observe"}),
    "calibrated": frozenset(
        {"graph", "couple", "calibration", "compensate", "invented", "observe", "surgery"}
    ),
    "surgery": frozenset({"graph", "ops", "couple"}),
    "proof": frozenset({"graph"}),
    "measure": frozenset({"graph", "timing"}),
    "inputs": frozenset({"graph"}),
    "calibration": frozenset({"graph", "inputs"}),
    "evaluate": frozenset({"graph", "inputs", "calibration"}),
    RETRAIN: frozenset(
        {"graph", "ops", "couple", "calibration", "calibrated", "evaluate", "inputs", "plan"}
        | {"observe", "surgery", "proof", "figures", "pipeline", "measure", "timing"}
    ),
    "figures": frozenset({"graph", "couple"}),
    "results": frozenset({"graph", "compensate"}),
    "pipeline": frozenset(
        {"graph", "ops", "couple", "plan", "surgery", "proof", "measure", "results"}
        | {"calibrated", "figures", "calibration", "compensate", "evaluate", "timing"}
    ),
    "replan": frozenset({"calibrated", "couple", "observe", "plan", "timing"}),
    "speed": frozenset(
        {"graph", "ops", "couple", "describe", "calibration", "calibrated", "plan", "measure"}
        | {"timing", "surgery", "figures", "results", "pipeline", "replan"}
    ),
    "tolerance": frozenset(
        {"graph", "ops", "couple", "calibration", "calibrated", "observe", "evaluate", "plan"}
        | {"measure", "timing", "replan"}
        | {"figures", "results", "pipeline"}
    ),
    "report": frozenset(
        {"graph", "ops", "couple", "plan", "proof", "measure", "results", "pipeline", "tolerance"}
        | {RETRAIN, "timing", "speed"}
    ),
    "cli": frozenset(
        {"graph", "couple", "ops", "describe", "partition", "plan", "proof", "measure", "inputs"}
        | {"calibration", "evaluate", "results", "pipeline", "tolerance", "report", RETRAIN}
        | {"timing", "speed"}
    ),
}
"""Layer -> the layers it may import besides itself and `FREE`."""

HOMES: dict[str, frozenset[str]] = {
    "onnxruntime": frozenset({"graph/session.py", "measure/machine.py"}),
    **dict.fromkeys(TRAINING, frozenset()),
    "PIL": frozenset({"calibration/images.py"}),
    "pickle": frozenset(),
    "matplotlib": frozenset({"report/plot.py"}),
}
"""Outside package -> the only files that may import it."""

NO_ONNX = frozenset({"describe", "partition", "timing"})


def imported(source: str) -> set[str]:
    """Full names of everything that a source text imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            found |= {f"{home}.{alias.name}" for alias in node.names}
    return found


def layer_of(path: Path) -> str:
    """`graph` for graph/save.py, `pipeline` for pipeline.py, `` for the package itself."""
    return path.parts[0].removesuffix(".py").replace("__init__", "")


def violations(package: Path) -> list[str]:
    """Every import in a package tree that the rules above do not allow.

    Args:
        package: Folder that holds the package `onnx_scsp`.

    Returns:
        One sentence per forbidden import.
    """
    return [
        f"{path}: {problem}"
        for path in sorted(file.relative_to(package) for file in package.rglob("*.py"))
        for problem in _problems(path, imported((package / path).read_text(encoding="utf-8")))
    ]


def _problems(path: Path, names: set[str]) -> list[str]:
    layer = layer_of(path)
    return [
        problem for name in sorted(names) if (problem := _problem(path, layer, name)) is not None
    ]


def _problem(path: Path, layer: str, name: str) -> str | None:
    first, _, rest = name.partition(".")
    if not first:
        return f"relative import {name}"
    if first in HOMES and path.as_posix() not in HOMES[first] and layer != _home_layer(first):
        return f"imports {first}"
    if first == "onnx" and layer in NO_ONNX:
        return "imports onnx"
    if first != "onnx_scsp" or not layer:  # the package itself names everything, lazily
        return None
    target = rest.partition(".")[0]
    if not target or target == "__version__" or target in FREE | {layer}:
        return None
    if layer in FREE:
        return f"{layer} imports {target}"
    return None if target in MAY_IMPORT.get(layer, frozenset()) else f"{layer} imports {target}"


def _home_layer(package: str) -> str:
    """PyTorch and what trains with it have one layer of their own."""
    return RETRAIN if package in TRAINING else "-"
