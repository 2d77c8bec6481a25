"""The other two that prune exported or exportable networks, at the same ratio."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.coverage.catalog import Network
from tools.coverage.driver import RATIO
from tools.coverage.ours import census
from tools.coverage.probe import run
from tools.coverage.widths import widths_kept
from tools.modules import output_layers, tensors


def torch_pruning(net: Network, path: Path, scratch: Path) -> dict[str, Any]:
    """Torch-Pruning on the torch module, every group to half, output layers left alone.

    The pruned module is exported, and its MACs are counted like everybody's: in the file.

    Args:
        net: The network.
        path: Its exported file, for the MACs before.
        scratch: Folder for the pruned module's file.

    Returns:
        The figures of a record.
    """
    torch = importlib.import_module("torch")
    tp = importlib.import_module("torch_pruning")
    zoo = importlib.import_module("tools.coverage.zoo")
    model, inputs = zoo.build(net), zoo.examples(net, 1)
    expected = [list(t.shape) for t in tensors(model(*inputs))]
    owned, out = params(model), scratch / "tp.onnx"
    heads = {m.qkv: m.num_heads for m in model.modules() if hasattr(m, "qkv")}
    tp.pruner.BasePruner(
        model,
        inputs if len(inputs) > 1 else inputs[0],
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=RATIO,
        ignored_layers=output_layers(model, inputs),
        num_heads=heads,
    ).step()
    with torch.no_grad():
        got = [list(t.shape) for t in tensors(model(*inputs))]
    if got != expected:
        return {"outcome": "wrong", "error": f"outputs {expected} became {got}"[:300]}
    zoo.export_script(model, inputs, out, folded=True)
    (before, _, wide), (after, _, narrow) = census(path), census(out)
    same = [list(value.shape) for value in run(out)] == expected
    problem = {} if same else {"outcome": "wrong", "error": "the exported module's outputs differ"}
    left = {"params_left": params(model) / max(owned, 1)} | widths_kept(wide, narrow, RATIO)
    return _result(before, after) | left | problem


def params(model: Any) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in model.parameters())


def onnxsim(net: Network, path: Path, scratch: Path) -> dict[str, Any]:
    """Simplification, then onnxsim's structured pruning of the file.

    Args:
        net: The network.
        path: Its exported file.
        scratch: Folder for the pruned file.

    Returns:
        The figures of a record.
    """
    onnx = importlib.import_module("onnx")
    simplifier = importlib.import_module("onnxsim")
    out = scratch / "onnxsim.onnx"
    model, fine = simplifier.simplify(str(path))
    if not fine:
        return {"outcome": "wrong", "error": "simplification changes the outputs"}
    onnx.save(simplifier.apply_structured_pruning(model, sparsity=1 - RATIO), str(out))
    expected = run(path)
    try:
        got = run(out)
    except Exception as error:  # the runtime has no one type for a file that is not consistent
        return {"outcome": "wrong", "error": f"the result does not run: {error}"[:300]}
    if [a.shape for a in expected] != [a.shape for a in got]:
        return {"outcome": "wrong", "error": "the shapes of the outputs change"}
    (before, owned, wide), (after, left, narrow) = census(path), census(out)
    shares = widths_kept(wide, narrow, RATIO)
    return _result(before, after) | {"params_left": left / max(owned, 1)} | shares


def _result(before: int, after: int) -> dict[str, Any]:
    return {"outcome": "ok", "macs": before, "macs_left": after / max(before, 1)}


RIVALS: dict[str, Callable[[Network, Path, Path], dict[str, Any]]] = {
    "tp": torch_pruning,
    "onnxsim": onnxsim,
}
