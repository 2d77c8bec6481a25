"""The table of criteria: how much each unit is worth, larger is more.

A criterion picks the unit of a cluster that stays (`--criterion`), and is a method of its own: its
least worthy units go (`--method`). What reads sample inputs goes by the weights (`energy`) where
nothing that reads a unit can be observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from onnx_scsp.describe.activity import contributions, rebuilding_errors
from onnx_scsp.errors import ConfigError
from onnx_scsp.types import FloatArray
from onnx_scsp.units import UnitTable

Criterion = Callable[[UnitTable], FloatArray]
"""Unit table -> float64 (n,), not negative. The first line of its docstring is its description."""


def energy(table: UnitTable) -> FloatArray:
    """Squared norm of the producers times squared norm of the readers."""
    return table.energy


def magnitude(table: UnitTable) -> FloatArray:
    """Squared norm of the producers alone, normalisation folded in."""
    return np.diagonal(table.signal).astype(np.float64)


def norm_scale(table: UnitTable) -> FloatArray:
    """Size of BatchNormalization's scale (network slimming; Liu et al. 2017).

    Raises:
        ConfigError: No BatchNormalization follows the group's producers.
    """
    if table.norm_scale is None:
        raise ConfigError(
            f"criterion 'gamma' ranks by BatchNormalization's scale, and group {table.group} has "
            "none (it may be folded into the weights); choose another, such as l2"
        )
    return table.norm_scale


def median_distance(table: UnitTable) -> FloatArray:
    """Mean distance to the other filters: what lies near their geometric median goes (FPGM).

    He, Liu, Wang, Hu, Yang 2019, on filters with normalisation folded in. A filter without others
    is as far off as it is long.
    """
    size = np.diagonal(table.signal)
    if table.n_units == 1:
        return np.sqrt(np.maximum(size, 0.0))
    squared = size[:, None] + size[None, :] - 2.0 * table.signal
    distance = np.sqrt(np.maximum(squared, 0.0))
    np.fill_diagonal(distance, 0.0)
    return np.asarray(distance.sum(axis=1) / (table.n_units - 1))


def feature_rank(table: UnitTable) -> FloatArray:
    """Mean rank of the unit's feature maps on sample inputs (HRank; Lin et al. 2020)."""
    if table.activity is None or table.activity.ranks is None:
        return table.energy
    return table.activity.ranks


def rebuilding_error(table: UnitTable) -> FloatArray:
    """What is lost when the other units rebuild it on sample inputs (after REAP)."""
    if table.activity is None:
        return table.energy
    return rebuilding_errors(table.activity, table.n_units)


def contribution(table: UnitTable) -> FloatArray:
    """Variance that the unit adds to its readers' outputs on sample inputs."""
    if table.activity is None:
        return table.energy
    found = contributions(table.activity, table.n_units)
    return np.maximum(np.diagonal(found), 0.0)


def output_error(table: UnitTable) -> FloatArray:
    """What the readers have lost, after repair on sample inputs, when it is its turn to go."""
    return table.energy if table.activity is None else table.activity.loss


def outside_importance(table: UnitTable) -> FloatArray:
    """Scores from a file (--importance), such as Taylor scores from training code.

    Raises:
        ConfigError: The file says nothing about the group.
    """
    if table.importance is None:
        raise ConfigError(
            f"criterion 'importance' has no score for group {table.group}; give --importance "
            "FILE.npz with one for the weight of a layer that makes it (see inspect)"
        )
    return table.importance


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "energy": energy,
        "l2": magnitude,
        "gamma": norm_scale,
        "fpgm": median_distance,
        "importance": outside_importance,
        "hrank": feature_rank,
        "reap": rebuilding_error,
        "contribution": contribution,
        "output-error": output_error,
    }
)
"""Criteria by name. Extend a copy: `CRITERIA | {"mine": my_criterion}`."""
