"""Builds the networks with random weights and exports them."""

# mypy: disable-error-code="no-any-return"
# (torch declares that calling a module gives Any)

from __future__ import annotations

import importlib
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from tools.coverage.catalog import Network, Shape

VARIANTS = {
    "ts": "TorchScript exporter, normalisation folded",
    "ts-bn": "TorchScript exporter, normalisation kept",
    "dy": "dynamo exporter, optimised",
    "dy-bn": "dynamo exporter, not optimised",
}
OPSET = 17  # of the TorchScript exporter; the dynamo exporter has its own
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ExportError(Exception):
    """The exported file is not what the variant promises."""


def build(net: Network) -> nn.Module:
    """The network in eval mode, with seeded random weights and statistics.

    Args:
        net: The network.

    Returns:
        The module.
    """
    torch.manual_seed(zlib.crc32(net.name.encode()))
    model = _SOURCES[net.source](net)
    for module in model.modules():
        if isinstance(module, NORMS):
            _randomise(module)
        for name, buffer in module.named_buffers(recurse=False):
            if name == "index":  # CondenseNet's learned order is all zeros before training
                buffer.copy_(torch.randperm(buffer.numel()))
    return model.eval()


def examples(net: Network, batch: int) -> tuple[torch.Tensor, ...]:
    """Random inputs of the network."""
    return tuple(torch.randn(batch, *shape) for shape in net.inputs)


def export(net: Network, variant: str, path: Path) -> None:
    """Writes one variant of a network.

    Args:
        net: The network.
        variant: A key of VARIANTS.
        path: Output file.

    Raises:
        ExportError: Normalisation should have been kept and is gone.
    """
    model = build(net)
    if variant.startswith("ts"):
        export_script(model, examples(net, 1), path, folded=variant == "ts")
    else:
        _export_dynamo(model, examples(net, 2), path, folded=variant == "dy")
    if not variant.endswith("-bn"):
        return
    written = onnx.load(path, load_external_data=False)
    kept = sum(node.op_type == "BatchNormalization" for node in written.graph.node)
    if not kept and any(isinstance(module, NORMS) for module in model.modules()):
        path.unlink()
        raise ExportError("the exporter folded every BatchNormalization")


def export_script(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, *, folded: bool
) -> None:
    """Writes a module with the TorchScript exporter, with a dynamic batch axis."""
    names = [f"input{place}" for place in range(len(inputs))]
    options: dict[str, Any] = {}
    if not folded:
        options = {
            "training": torch.onnx.TrainingMode.PRESERVE,
            "do_constant_folding": False,
        }
    torch.onnx.export(
        model,
        inputs,
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=names,
        dynamic_axes={name: {0: "N"} for name in names},
        **options,
    )


def _export_dynamo(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, *, folded: bool
) -> None:
    batch = torch.export.Dim("N")
    torch.onnx.export(
        model,
        inputs,
        str(path),
        dynamo=True,
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        optimize=folded,
        external_data=False,
        verbose=False,
    )


def _randomise(norm: Any) -> None:
    """Statistics and affine terms that no layer would notice if they were mixed up are no test."""
    if norm.running_mean is not None:
        nn.init.normal_(norm.running_mean, 0.0, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    if norm.weight is not None:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.1)


class _FullLength(nn.Module):
    """A network of sequences with their lengths, fed with full ones."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs the network."""
        lengths = torch.full((x.shape[0],), x.shape[2], dtype=torch.long)
        return self.model(x, lengths)[0]


def _from_pytorchcv(net: Network) -> nn.Module:
    _stand_in("torchvision.ops")
    provider = importlib.import_module("pytorchcv.model_provider")
    if net.name.startswith(("jasper", "quartznet")):  # from spectrograms, all of full length
        return _FullLength(provider.get_model(net.name, pretrained=False, from_audio=False))
    sides: Shape = net.inputs[0][1:]
    if len(sides) == 2 and net.source == "pytorchcv" and net.inputs[0][0] == 3:
        try:
            return provider.get_model(net.name, pretrained=False, in_size=sides)
        except TypeError:  # a network without a size of its own
            pass
    return provider.get_model(net.name, pretrained=False)


def _stand_in(name: str) -> None:
    """Replaces a package that pytorchcv imports and that no network measured here uses."""
    try:
        importlib.import_module(name)
    except ImportError:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            module: Any = types.ModuleType(".".join(parts[:end]))
            module.DeformConv2d = nn.Module
            sys.modules[module.__name__] = module


def _from_plain(net: Network) -> nn.Module:
    return importlib.import_module("tools.coverage.nets").NETS[net.name]()


def _from_torchvision(net: Network) -> nn.Module:
    return importlib.import_module("torchvision.models").get_model(net.name, weights=None)


def _from_timm(net: Network) -> nn.Module:
    return importlib.import_module("timm").create_model(net.name, pretrained=False)


_SOURCES = {
    "pytorchcv": _from_pytorchcv,
    "plain": _from_plain,
    "torchvision": _from_torchvision,
    "timm": _from_timm,
}
