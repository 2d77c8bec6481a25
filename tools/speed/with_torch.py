"""What a user of Torch-Pruning runs: build, load weights, prune, export. Timed as a whole process.

python with_torch.py NETWORK WEIGHTS.pt OUT.onnx SHARE        prunes
python with_torch.py NETWORK WEIGHTS.pt --save                makes the weights, once
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from typing import Any

import torch
from torch import nn


def build(name: str) -> Any:
    """A network of pytorchcv; it imports one operator of torchvision that none here has."""
    try:
        importlib.import_module("torchvision.ops")
    except ImportError:
        for part in ("torchvision", "torchvision.ops"):
            sys.modules[part] = types.ModuleType(part)
        vars(sys.modules["torchvision.ops"])["DeformConv2d"] = nn.Module
    return importlib.import_module("pytorchcv.model_provider").get_model(name, pretrained=False)


def main() -> None:
    """Saves weights, or prunes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("network")
    parser.add_argument("weights")
    parser.add_argument("out", nargs="?")
    parser.add_argument("share", nargs="?", type=float)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    if given.save:
        torch.save(build(given.network).state_dict(), given.weights)
        return
    with torch.device("meta"):  # no random weights that are overwritten at once
        model = build(given.network)
    model.load_state_dict(torch.load(given.weights, weights_only=True), assign=True)
    model.eval()
    prune(model, given.share)
    names = {"input_names": ["input"], "output_names": ["output"]}
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    example = (torch.zeros(1, 3, 224, 224),)
    torch.onnx.export(model, example, given.out, dynamo=False, dynamic_axes=axes, **names)


def prune(model: Any, share: float) -> None:
    """Takes a share of every group's channels, by L2 norms; the classifier keeps its classes."""
    import torch_pruning as tp

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    tp.pruner.BasePruner(
        model,
        torch.zeros(1, 3, 224, 224),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=layers[-1:],
        round_to=8,
    ).step()


if __name__ == "__main__":
    main()
