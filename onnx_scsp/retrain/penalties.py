"""Regularisers on the filters of a network, as extra terms of the loss.

With the filters w_u of each producer, u over its units:

    group            sum_u ||w_u||_2                                                (2,1)-norm
    exclusive        1/2 sum over input entries of (sum_u |w_u,i|)^2               (1,2)-norm
    group-exclusive  (1 - mu) group + mu exclusive, mu growing from `FIRST` to `LAST` over depth

after CGES (Yoon and Hwang, ICML 2017), whose proximal updates are plain gradients here. CGES groups
the weights of one input neuron; channel pruning removes filters, so filters are the groups, and
they compete for each input entry.

    balanced         sum_{u weak} ||w_u||^2 - c sum_{u strong} ||w_u||^2,  c = weak sum / strong sum

after Ding et al. (AAAI 2018): weak filters (those outside the plan of the epoch) shrink and strong
ones grow, and the terms sum to zero. The factors of that paper depend on each filter's norm; here
they are one per side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from onnx_scsp.couple import Coupling
from onnx_scsp.retrain.members import owners
from onnx_scsp.retrain.soften import kept_by_group
from onnx_scsp.types import PrunePlan, Role

FIRST, LAST = 0.2, 0.8
Penalty = Callable[[], Tensor]
_Filters = tuple[Tensor, int, Tensor]
"""(weight, filter axis, bool per entry of that axis: outside the plan)."""


def make_penalty(
    name: str, coupling: Coupling, plan: PrunePlan | None, constants: Mapping[str, Tensor]
) -> Penalty | None:
    """The regulariser of one epoch.

    Args:
        name: One of `options.PENALTIES`.
        coupling: The network's groups.
        plan: The plan of the epoch; None after the cut, where nothing is weak.
        constants: The trained tensors.

    Returns:
        A function of the present weights, or None where there is nothing to regularise.
    """
    filters = _filters(coupling, plan, constants)
    if name == "none" or not filters:
        return None
    if name == "balanced":
        return (lambda: _balanced(filters)) if plan is not None else None
    depth = max(len(filters) - 1, 1)
    shares = {
        "group": [0.0] * len(filters),
        "exclusive": [1.0] * len(filters),
        "group-exclusive": [FIRST + (LAST - FIRST) * i / depth for i in range(len(filters))],
    }[name]
    return lambda: _sparse(filters, shares)


def _filters(
    coupling: Coupling, plan: PrunePlan | None, constants: Mapping[str, Tensor]
) -> list[_Filters]:
    kept = kept_by_group(coupling, plan) if plan is not None else {}
    weak: dict[tuple[str, int], np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = {}
    for group in coupling.map.groups:
        for member in group.members:
            tensor = constants.get(member.tensor)
            if member.role is not Role.MAKES or member.across >= 0 or tensor is None:
                continue
            if tensor.ndim < 2 or not tensor.requires_grad:
                continue
            units = owners(member, tuple(tensor.shape)).reshape(-1)
            gone = np.zeros(units.size, bool)
            if group.id in kept:
                gone = np.where(units >= 0, ~kept[group.id][np.maximum(units, 0)], False)
            place = (member.tensor, member.axis)
            weak[place] = weak[place] | gone if place in weak else gone
    return [
        (constants[name], axis, torch.from_numpy(gone).to(constants[name].device))
        for (name, axis), gone in weak.items()
    ]


def _rows(weight: Tensor, axis: int) -> Tensor:
    return weight.movedim(axis, 0).flatten(1)


def _sparse(filters: list[_Filters], shares: list[float]) -> Tensor:
    total = filters[0][0].new_zeros(())
    for (weight, axis, _), share in zip(filters, shares, strict=True):
        rows = _rows(weight, axis)
        if share < 1.0:
            # the square root has no gradient at 0: a filter of zeros stays there unharmed
            total = total + (1.0 - share) * (rows.square().sum(1) + 1e-12).sqrt().sum()
        if share > 0.0:
            total = total + share * 0.5 * rows.abs().sum(0).square().sum()
    return total


def _balanced(filters: list[_Filters]) -> Tensor:
    total = filters[0][0].new_zeros(())
    for weight, axis, gone in filters:
        squares = _rows(weight, axis).square().sum(1)
        weak, strong = squares[gone].sum(), squares[~gone].sum()
        balance = weak.detach() / strong.detach().clamp_min(1e-12)
        total = total + weak - balance * strong
    return total
