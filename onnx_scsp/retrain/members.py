"""A unit's entries in the tensors of its group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onnx_scsp.types import AnyArray, BoolArray, ChannelGroup, FloatArray, IntArray, Member


def owners(member: Member, shape: tuple[int, ...]) -> IntArray:
    """The group's unit that owns each entry, broadcastable to the tensor; -1 for none.

    Args:
        member: A tensor axis.
        shape: Shape of the tensor.

    Returns:
        int64 of the tensor's rank, axes without units of size 1.
    """
    rank, axis = len(shape), member.axis % max(len(shape), 1)
    target = [1] * rank
    target[axis] = shape[axis]
    if member.across < 0:
        return member.units.reshape(target)
    across = member.across % rank
    target[across] = shape[across]
    rows = np.repeat(member.units, shape[across] // member.units.shape[0], axis=0)
    return (rows if across < axis else rows.T).reshape(target)


def chosen_entries(member: Member, shape: tuple[int, ...], chosen: BoolArray) -> BoolArray:
    """Which entries belong to some units, broadcastable to the tensor.

    Args:
        member: A tensor axis.
        shape: Shape of the tensor.
        chosen: Bool (units of the group,).
    """
    units = owners(member, shape)
    return np.asarray(np.where(units >= 0, chosen[np.maximum(units, 0)], False))


def unit_sums(
    group: ChannelGroup, values: Mapping[str, AnyArray], which: Callable[[Member], bool]
) -> FloatArray:
    """Sum of squares of each unit's entries over some members of its group.

    Args:
        group: The group.
        values: Constant name -> values.
        which: Which members count.

    Returns:
        float64 (units,).
    """
    total = np.zeros(group.n_units)
    for member in group.members:
        if which(member) and member.tensor in values:
            squares = np.square(np.asarray(values[member.tensor], np.float64))
            units = np.broadcast_to(owners(member, squares.shape), squares.shape)
            mine = units >= 0
            np.add.at(total, units[mine], squares[mine])
    return total
