"""Trying the choices of several criteria, and taking the best, group by group.

LFPC (He et al., CVPR 2020) learns which criterion suits which layer by training; here each
criterion chooses, the group's readers are repaired in closed form, and the network's outputs on
held-out inputs decide. Choices that several criteria agree on are tried once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_scsp.plan.clustering import one_per_cluster_pick, scsp_pick
from onnx_scsp.plan.method import Pick, Tools, strongest_first
from onnx_scsp.plan.ranking import output_aware_pick
from onnx_scsp.types import BoolArray
from onnx_scsp.units import UnitTable

DEFAULT = "output-aware"
"""What stands where nothing can be tried, and where nothing is better."""


def trying_pick(table: UnitTable, k: int, tools: Tools) -> Pick:
    """The choice that does least to the network on held-out inputs."""
    default = output_aware_pick(table, k, tools)
    if tools.trial is None or tools.evidence is None:
        return default
    picks = {DEFAULT: default, **_others(table, k, tools)}
    names: dict[bytes, str] = {}
    for name, pick in picks.items():
        names.setdefault(pick.keep.tobytes(), name)
    tried = list(names.values())
    errors = tools.trial([_mask(picks[name], table.n_units) for name in tried])
    best = tried[int(np.argmin(errors))]
    return replace(picks[best], criterion=best)


def _others(table: UnitTable, k: int, tools: Tools) -> dict[str, Pick]:
    """Choices of every criterion that has what it needs, and of the clusters."""
    absent = set()
    if table.norm_scale is None:
        absent.add("gamma")
    if table.importance is None:
        absent.add("importance")
    found = {"scsp": scsp_pick(table, k, tools)}
    found["one-per-cluster"] = replace(one_per_cluster_pick(table, k, tools), clusters=None)
    for name, criterion in tools.criteria.items():
        if name not in absent:
            worth = np.where(table.dead, 0.0, criterion(table))
            found[name] = Pick(np.sort(strongest_first(worth)[:k]))
    return found


def _mask(pick: Pick, n_units: int) -> BoolArray:
    kept = np.zeros(n_units, bool)
    kept[pick.keep] = True
    return kept
