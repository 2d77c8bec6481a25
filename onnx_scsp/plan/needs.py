"""What counts per pool have to leave: no axis empty, no group below its smallest share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.plan.cost import Pool, least_units
from onnx_scsp.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """Demands on the counts.

    Attributes:
        rows: Bool (n, pools): of the pools of each row at least one keeps a unit.
        group_of: int (pools,), number of each pool's group.
        least: float64 (groups,), units that stay in each group.
    """

    rows: BoolArray
    group_of: IntArray
    least: FloatArray

    @property
    def n_pools(self) -> int:
        """Number of pools."""
        return int(self.group_of.size)

    def unmet(self, k: FloatArray) -> BoolArray | None:
        """Bool (pools,): those that could meet the first unmet demand; None where all are met."""
        gone = k == 0
        if gone.any() and len(self.rows):
            empty = ~(self.rows[:, ~gone].any(axis=1))
            if empty.any():
                return np.asarray(self.rows[int(np.argmax(empty))])
        kept = np.bincount(self.group_of, weights=k, minlength=self.least.size)
        short = kept < self.least
        return np.asarray(self.group_of == int(np.argmax(short))) if short.any() else None


def find_needs(coupling: Coupling, pools: list[Pool], min_share: float) -> Needs:
    """Translates the demands on units into demands on pools.

    Args:
        coupling: The coupling.
        pools: Its pools.
        min_share: Smallest share of units that stays in every group.

    Returns:
        Demands; those that a pool which never empties meets are left out.
    """
    pool_of = np.zeros(coupling.n_units, np.int64)
    for place, pool in enumerate(pools):
        pool_of[pool.global_units] = place
    empties = np.array([pool.allowed[0] == 0 for pool in pools], bool)
    rows: dict[bytes, BoolArray] = {}
    for demand in coupling.demands:
        places = np.unique(pool_of[demand.units])
        if empties[places].all():
            row = np.zeros(len(pools), bool)
            row[places] = True
            rows.setdefault(row.tobytes(), row)
    groups = coupling.map.groups
    number = {group.id: place for place, group in enumerate(groups)}
    return Needs(
        rows=np.array(list(rows.values()), bool).reshape(len(rows), len(pools)),
        group_of=np.array([number[pool.group] for pool in pools], np.int64),
        least=np.array([least_units(group.n_units, min_share) for group in groups], float),
    )
