"""Operators that pick entries by index, or put them somewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from onnx_scsp.retrain.lift.op import DTYPES, Op, to_tensor

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def gather(op: Op, x: Tensor, indices: Any) -> Tensor:
    """Entries of one axis; a negative index counts from the end."""
    axis = op.attr("axis", 0) % x.ndim
    if isinstance(indices, np.ndarray):
        if indices.ndim == 0:
            return x.select(axis, int(indices))
        indices = to_tensor(indices, x.device)
    places = _from_front(indices.to(torch.int64), x.shape[axis])
    picked = x.index_select(axis, places.reshape(-1))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _from_front(indices: Tensor, size: Any) -> Tensor:
    return torch.where(indices < 0, indices + size, indices)


def gather_elements(op: Op, x: Tensor, indices: Tensor) -> Tensor:
    """One index per entry of the result."""
    axis = op.attr("axis", 0) % x.ndim
    return x.gather(axis, _from_front(indices.to(torch.int64), x.shape[axis]))


def gather_nd(op: Op, x: Tensor, indices: Tensor) -> Tensor:
    """The last axis of the indices holds coordinates, after `batch_dims` common axes."""
    common, depth = op.attr("batch_dims", 0), indices.shape[-1]
    lead = list(x.shape[:common])
    places = [
        _from_front(indices[..., axis].to(torch.int64), x.shape[common + axis])
        for axis in range(depth)
    ]
    grids = []
    for axis, size in enumerate(lead):
        view = [1] * (indices.ndim - 1)
        view[axis] = size
        grids.append(torch.arange(size, device=x.device).reshape(view))
    return x[tuple(grids + places)]


def scatter_elements(op: Op, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """One index per entry of the updates."""
    axis, how = op.attr("axis", 0) % x.ndim, op.attr("reduction", "none")
    places = _from_front(indices.to(torch.int64), x.shape[axis])
    if how == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCTIONS[how], include_self=True)


def scatter_nd(op: Op, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """The last axis of the indices holds coordinates."""
    how, depth = op.attr("reduction", "none"), indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        place = _from_front(indices[..., axis].to(torch.int64), x.shape[axis])
        flat = flat * x.shape[axis] + place
    rest = list(x.shape[depth:])
    rows = x.reshape(-1, *rest)
    values = updates.reshape(-1, *rest)
    if how == "none":
        return rows.index_put((flat.reshape(-1),), values).reshape(x.shape)
    places = flat.reshape(-1, *[1] * len(rest)).expand(values.shape)
    return rows.scatter_reduce(0, places, values, _REDUCTIONS[how], include_self=True).reshape(
        x.shape
    )


def one_hot(op: Op, indices: Tensor, depth: Any, values: Tensor) -> Tensor:
    """values[1] where the new axis' index is the given one, values[0] elsewhere."""
    count = int(depth.reshape(-1)[0])
    axis = op.attr("axis", -1) % (indices.ndim + 1)
    places = _from_front(indices.to(torch.int64), count).unsqueeze(axis)
    view = [1] * (indices.ndim + 1)
    view[axis] = count
    hit = places == torch.arange(count, device=indices.device).reshape(view)
    return torch.where(hit, values[1], values[0])


def non_zero(op: Op, x: Tensor) -> Tensor:
    """Coordinates of the entries that are not 0, one column each."""
    return x.nonzero().transpose(0, 1)


def compress(op: Op, x: Tensor, condition: Tensor) -> Tensor:
    """Entries of an axis (or of the flat tensor) where a condition holds."""
    axis = op.attr("axis")
    places = condition.nonzero().reshape(-1)
    return x.reshape(-1)[places] if axis is None else x.index_select(axis, places)


def range_(op: Op, start: Any, limit: Any, delta: Any) -> Tensor:
    """Start, start + delta, ... below the limit."""
    low, high, step = (value.reshape(-1)[0].item() for value in (start, limit, delta))
    return to_tensor(np.arange(low, high, step, dtype=start.dtype))


def trilu(op: Op, x: Tensor, k: Any = None) -> Tensor:
    """Upper or lower triangle of the last two axes."""
    diagonal = 0 if k is None else int(k.reshape(-1)[0])
    return torch.triu(x, diagonal) if op.attr("upper", 1) else torch.tril(x, diagonal)


def eye_like(op: Op, x: Tensor) -> Tensor:
    """Ones on a diagonal."""
    dtype = DTYPES[op.attr("dtype")] if op.attr("dtype") else x.dtype
    ones = torch.ones(x.shape, dtype=dtype, device=x.device)
    k = op.attr("k", 0)
    return torch.tril(torch.triu(ones, k), k)


def where(op: Op, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A where the condition holds, else b."""
    return torch.where(condition, a, b)
