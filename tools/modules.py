"""What a pruner of torch modules asks of one: layers that reach an output, and its MACs."""

from __future__ import annotations

import importlib
from typing import Any

_KINDS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "Linear", "LSTM")


def tensors(value: Any) -> list[Any]:
    """The tensors of a nested result, in order."""
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors(part)]
    return [value] if hasattr(value, "shape") else []


def output_layers(model: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """Layers whose channels reach an output: the last one on every way back.

    Args:
        model: A torch module.
        inputs: What it is called with.

    Returns:
        Its convolutions, linear and recurrent layers that nothing of that kind follows.
    """
    owner: dict[Any, Any] = {}
    hooks = [
        module.register_forward_hook(
            lambda module, _, value: owner.update({t.grad_fn: module for t in tensors(value)})
        )
        for module in model.modules()
        if type(module).__name__ in _KINDS
    ]
    todo = [tensor.grad_fn for tensor in tensors(model(*inputs)) if tensor.grad_fn]
    for hook in hooks:
        hook.remove()
    seen, found = set(todo), []
    while todo:
        step = todo.pop()
        if step in owner:
            found.append(owner[step])
            continue
        fresh = {before for before, _ in step.next_functions if before is not None} - seen
        seen |= fresh
        todo += fresh
    return found


def macs(model: Any, inputs: tuple[Any, ...]) -> int:
    """Multiply-accumulates of two-dimensional convolutions and linear layers.

    Args:
        model: A torch module.
        inputs: What it is called with, one sample.

    Returns:
        The count.
    """
    count = 0

    def add(module: Any, _: Any, value: Any) -> None:
        nonlocal count
        weight, kind = module.weight, type(module).__name__
        if kind == "Linear":
            count += value.numel() * weight.shape[1]
        elif kind == "ConvTranspose2d":
            count += value.numel() * weight[0].numel() * module.in_channels // module.out_channels
        else:
            count += value.numel() * weight[0].numel()

    kinds = ("Conv2d", "ConvTranspose2d", "Linear")
    hooks = [m.register_forward_hook(add) for m in model.modules() if type(m).__name__ in kinds]
    with importlib.import_module("torch").no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    return count
