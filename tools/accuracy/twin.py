"""From .onnx to a torch module that Torch-Pruning can prune.

The CIFAR ResNets get a module written for them: converters give up on the shortcut whose padding
is computed in the graph. Everything else goes through onnx2torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from tools.accuracy.catalog import Task
from tools.accuracy.plain import constants, plain
from tools.modules import output_layers

_BN_INPUTS = ("weight", "bias", "running_mean", "running_var")


class Block(nn.Module):
    """Two convolutions and a shortcut; where it strides, it skips pixels and pads channels."""

    def __init__(self, first: nn.Module, second: nn.Module, stride: int, pad: int) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.stride, self.pad = stride, pad

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        shortcut = x
        if self.stride > 1:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *[self.pad] * 2))
        return F.relu(self.second(F.relu(self.first(x))) + shortcut)


class ResNet(nn.Module):
    """A CIFAR ResNet with parameter-free shortcuts."""

    def __init__(self, stem: nn.Module, blocks: list[Block], head: nn.Linear) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.Sequential(*blocks), head

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


def resnet(path: Path) -> ResNet:
    """The twin of one of the CIFAR files.

    Args:
        path: The .onnx, normalisation folded or kept.

    Returns:
        The module, with the file's weights.
    """
    proto = onnx.load(str(path))
    values = {
        name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for name, tensor in constants(proto).items()
    }
    readers = {name: node for node in proto.graph.node for name in node.input}
    convs = [
        _conv(node, readers.get(node.output[0]), values)
        for node in proto.graph.node
        if node.op_type == "Conv"
    ]
    gemm = next(node for node in proto.graph.node if node.op_type == "Gemm")
    weight, bias = values[gemm.input[1]], values[gemm.input[2]]
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.weight.data, head.bias.data = weight, bias
    blocks = []
    for first, second in zip(convs[1::2], convs[2::2], strict=True):
        shape = first[0].weight.shape
        blocks.append(Block(first, second, first[0].stride[0], (shape[0] - shape[1]) // 2))
    return ResNet(convs[0], blocks, head).eval()


def _conv(node: Any, reader: Any, values: dict[str, Tensor]) -> nn.Sequential:
    weight = values[node.input[1]]
    stride = next((a.ints[0] for a in node.attribute if a.name == "strides"), 1)
    has_bias = len(node.input) > 2
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride, 1, bias=has_bias)
    conv.weight.data = weight
    if has_bias and conv.bias is not None:
        conv.bias.data = values[node.input[2]]
    if reader is None or reader.op_type != "BatchNormalization":
        return nn.Sequential(conv)
    epsilon = next((a.f for a in reader.attribute if a.name == "epsilon"), 1e-5)
    norm = nn.BatchNorm2d(weight.shape[0], eps=epsilon)
    norm.load_state_dict(
        {key: values[name] for key, name in zip(_BN_INPUTS, reader.input[1:], strict=True)},
        strict=False,
    )
    return nn.Sequential(conv, norm)


def convert(path: Path) -> nn.Module:
    """Any other file, through onnx2torch.

    Args:
        path: The .onnx.

    Returns:
        The module.
    """
    module: nn.Module = _onnx2torch().convert(plain(onnx.load(str(path))))
    return module.eval()


def _onnx2torch() -> Any:
    """The package; it imports torchvision for two operators that no network here has."""
    stubs = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.ops")}
    vars(stubs["torchvision.ops"])["roi_align"] = None
    if importlib.util.find_spec("torchvision") is None:
        sys.modules.update(stubs)
    try:
        return importlib.import_module("onnx2torch")
    finally:
        for name, stub in stubs.items():
            if sys.modules.get(name) is stub:
                del sys.modules[name]


def module_of(task: Task) -> tuple[nn.Module, list[nn.Module]]:
    """A torch module of a network, and the layers whose outputs are to be left alone.

    Args:
        task: The network.

    Returns:
        Module, ignored layers: on the CIFAR ResNets everything on the residual spine, elsewhere
        none beyond those that feed an output.
    """
    path = Path(task.model)
    if task.family == "cifar":
        model = resnet(path)
        kept = [model.stem[0], model.head, *(block.second[0] for block in model.blocks)]
        return model, kept
    model = convert(path)
    return model, output_layers(model, (torch.zeros(2, *task.shape[1:]),))


def export(model: nn.Module, task: Task, path: Path) -> None:
    """Writes a module as ONNX, with the axes dynamic that the task's clients vary.

    Args:
        model: The module.
        task: The network it was made from.
        path: Output file.
    """
    names = [value.name for value in onnx.load(task.model).graph.output]
    axes = {0: "batch"}
    if task.family in ("recogniser", "detector"):
        axes |= {2: "height", 3: "width"}
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, *task.shape[1:]),),
        str(path),
        input_names=[task.input],
        output_names=names,
        dynamic_axes={task.input: axes, **{name: {0: "batch"} for name in names}},
        opset_version=17,
        dynamo=False,
    )
    before, after = onnx.load(task.model), onnx.load(str(path))
    del after.metadata_props[:]  # the clients read their alphabet there
    after.metadata_props.extend(before.metadata_props)
    _free_batch(after)
    onnx.save(after, str(path))


def _free_batch(proto: onnx.ModelProto) -> None:
    """Reshapes that the tracer gave the batch of one it saw take any batch again."""
    values = constants(proto)
    for node in proto.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in values:
            continue
        shape = numpy_helper.to_array(values[node.input[1]]).copy()
        if shape.ndim == 1 and shape.size > 1 and shape[0] == 1 and (shape > 0).all():
            shape[0] = -1
            name = f"{node.output[0]}/free"
            proto.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
