"""One network, one tool, brought to the budget; MACs are those of the file, by one counter."""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.accuracy.search import OutOfReachError, bisect
from tools.coverage.catalog import Network
from tools.coverage.ours import count
from tools.coverage.probe import run
from tools.modules import macs, output_layers
from tools.speed.catalog import Variant

MOST = 0.95
"""Largest share of channels that the search takes away."""

CLOSE, TOLERANCE = 0.01, 0.02
"""How far from the budget a result may be: without looking further, and at half the most."""

_LONGEST = 300


class CommandError(Exception):
    """The command did not end well; holds what it said."""


class WrongResultError(Exception):
    """A file that is not what was asked for."""


def prune(net: Network, variant: Variant, dense: Path, budget: float, out: Path) -> dict[str, Any]:
    """Prunes a network.

    Args:
        net: The network.
        variant: How.
        dense: Its exported file.
        budget: Share of the MACs that may remain.
        out: Where the result goes.

    Returns:
        The setting that was found, MACs and what is left of them.

    Raises:
        CommandError: Our command failed.
        OutOfReachError: The rival has no setting near the budget.
        WrongResultError: The file does not run, or its outputs have other shapes.
    """
    setting = _TOOLS[variant.tool](net, variant, dense, budget, out)
    _require_same_outputs(dense, out)
    (before, owned), (after, left) = count(dense), count(out)
    figures = {"macs": before, "macs_left": after / before, "params_left": left / max(owned, 1)}
    return {"outcome": "ok", "setting": setting, **figures}


def _require_same_outputs(dense: Path, out: Path) -> None:
    expected = [value.shape for value in run(dense)]
    try:
        found = [value.shape for value in run(out)]
    except Exception as error:  # the runtime has no one type for a file that is not consistent
        raise WrongResultError(f"the result does not run: {error}") from error
    if found != expected:
        raise WrongResultError(f"outputs {expected} became {found}")


def _ours(net: Network, variant: Variant, dense: Path, budget: float, out: Path) -> dict[str, Any]:
    words = ["prune", str(dense), "-o", str(out), "--macs", f"{budget:g}", *variant.arguments]
    command = [sys.executable, "-m", "onnx_scsp.cli.app", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-_LONGEST:]
        raise CommandError(f"exit status {done.returncode}: {said}")
    return {"command": " ".join(["onnx-scsp", *(Path(word).name for word in words)])}


def _torch_pruning(
    net: Network, variant: Variant, dense: Path, budget: float, out: Path
) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    zoo = importlib.import_module("tools.coverage.zoo")
    torch.set_num_threads(1)
    model, inputs = zoo.build(net), zoo.examples(net, 1)
    importlib.import_module("tools.speed.split").split_blocks(model)
    round_to = int(variant.arguments[0]) or None
    whole = macs(model, inputs)

    found: list[tuple[float, str, float, Any]] = []
    for spread in ("local", "global"):  # rounded, equal shares may jump over the budget

        def cut(share: float, spread: str = spread) -> Any:
            return _cut(copy.deepcopy(model), inputs, share, round_to, spread)

        def left(share: float, cut: Callable[[float], Any] = cut) -> float:
            return macs(cut(share), inputs) / whole

        try:
            share = bisect(left, budget, high=MOST, tolerance=TOLERANCE)
        except OutOfReachError:
            if spread == "global" and not found:
                raise
            continue
        pruned = cut(share)
        found.append((abs(macs(pruned, inputs) / whole - budget), spread, share, pruned))
        if found[0][0] <= CLOSE:
            break
    _, spread, share, pruned = min(found, key=lambda entry: entry[0])
    zoo.export_script(pruned, inputs, out, folded=True)
    return {"ratio": share, "round_to": round_to, "spread": spread}


def _cut(
    model: Any, inputs: tuple[Any, ...], share: float, round_to: int | None, spread: str
) -> Any:
    """Takes channels by their L2 norms: the same share of every group, or ranked over all."""
    tp = importlib.import_module("torch_pruning")
    tp.pruner.BasePruner(
        model,
        inputs[0],
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        max_pruning_ratio=MOST,
        global_pruning=spread == "global",
        ignored_layers=output_layers(model, inputs),
        round_to=round_to,
    ).step()
    return model


def _onnxsim(
    net: Network, variant: Variant, dense: Path, budget: float, out: Path
) -> dict[str, Any]:
    onnx = importlib.import_module("onnx")
    onnxsim = importlib.import_module("onnxsim")
    model, fine = onnxsim.simplify(str(dense))
    if not fine:
        raise ValueError("simplification changes the outputs")
    whole = count(dense)[0]

    def left(share: float) -> float:
        onnx.save(onnxsim.apply_structured_pruning(model, sparsity=share), str(out))
        return count(out)[0] / whole

    share = bisect(left, budget, high=MOST, tolerance=TOLERANCE)
    left(share)
    return {"sparsity": share}


_TOOLS = {"ours": _ours, "tp": _torch_pruning, "onnxsim": _onnxsim}
