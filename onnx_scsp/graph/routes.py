"""Where the outputs of an If come from that always takes one branch (see `graph.branches`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.types import AnyArray


@dataclass(frozen=True, slots=True)
class Move:
    """One operator of a branch.

    Attributes:
        op_type: Identity, Squeeze, Unsqueeze or Transpose.
        axes: Its axes, or the permutation.
    """

    op_type: str
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Where one output of an If comes from.

    Attributes:
        source: A value of the graph around the If.
        moves: What happens to it on the way, in order.
    """

    source: str
    moves: tuple[Move, ...] = ()

    def apply(self, array: AnyArray) -> AnyArray:
        """Moves an array as the branch moves its source.

        Raises:
            ValueError: An axis does not exist, or is squeezed and longer than 1.
        """
        for move in self.moves:
            if move.op_type == "Squeeze":
                array = np.squeeze(array, axis=move.axes)
            elif move.op_type == "Unsqueeze":
                array = np.expand_dims(array, move.axes)
            elif move.op_type == "Transpose":
                array = np.transpose(array, move.axes)
        return array

    def shape(self, source: tuple[int, ...]) -> tuple[int, ...] | None:
        """Shape of the output where the source has this one; None where they do not fit."""
        try:
            return self.apply(np.broadcast_to(np.int8(0), source)).shape
        except ValueError:
            return None


Routes = Mapping[int, tuple[Route, ...]]
"""Index of an If -> one route per output."""
