"""What reads the units of a pool, and what it sees of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.observe.elimination import Read
from onnx_scsp.observe.layers import input_units
from onnx_scsp.observe.statistics import LayerStatistics
from onnx_scsp.types import IntArray


def reads_of(
    coupling: Coupling, units: IntArray, found: Mapping[int, LayerStatistics]
) -> tuple[Read, ...]:
    """Every group of every layer that reads some of the units."""
    constants = coupling.walk.constants
    row_of = {int(unit): row for row, unit in enumerate(units)}
    reads: list[Read] = []
    for statistics in found.values():
        layer = statistics.layer
        width = layer.inputs // layer.groups
        if width == 1:
            continue  # filters channels one by one: it passes units on
        owners = input_units(coupling, layer.x, layer.inputs, layer.axis)
        owners = owners.reshape(layer.groups, width)
        mine = np.isin(owners, units)
        if not mine.any():
            continue
        matrix = layer.to_matrix(constants.array(layer.weight))
        scale = statistics.landing.scale.reshape(layer.groups, -1)
        tied = layer.taps if statistics.by_channel else 1
        taps = layer.taps // tied
        for group in np.flatnonzero(mine.any(axis=1)):
            inputs: dict[int, list[int]] = {}
            for channel in np.flatnonzero(mine[group]):
                first = int(channel) * taps
                row = row_of[int(owners[group, channel])]
                inputs.setdefault(row, []).extend(range(first, first + taps))
            covariance, mean = statistics.train.moments(int(group))
            reads.append(
                Read(
                    layer=layer,
                    group=int(group),
                    covariance=covariance,
                    mean=mean,
                    weight=matrix[group].reshape(width * taps, -1),
                    scale=np.tile(scale[group], tied),
                    inputs={row: np.array(places) for row, places in inputs.items()},
                    variance=statistics.variance,
                    tied=tied,
                )
            )
    return tuple(reads)
