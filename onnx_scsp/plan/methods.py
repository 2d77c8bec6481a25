"""The table of methods: how many units a set of comparable units is worth, and which ones stay."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from onnx_scsp.config import TRYING
from onnx_scsp.describe import CRITERIA
from onnx_scsp.plan.clustering import (
    folding_curve,
    folding_pick,
    one_per_cluster_curve,
    one_per_cluster_pick,
    scsp_curve,
    scsp_pick,
)
from onnx_scsp.plan.method import Method
from onnx_scsp.plan.ranking import (
    output_aware_curve,
    output_aware_pick,
    random_curve,
    random_pick,
    rankings,
)
from onnx_scsp.plan.trying import trying_pick

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(
                "one-per-cluster",
                "spectral clusters over the whole network, one unit of each stays",
                one_per_cluster_curve,
                one_per_cluster_pick,
                per_cost=False,
            ),
            Method(
                "scsp",
                "spectral clusters per layer, the least efficient clusters go",
                scsp_curve,
                scsp_pick,
            ),
            Method(
                "output-aware",
                "what the readers lose least, after their repair, on calibration inputs",
                output_aware_curve,
                output_aware_pick,
            ),
            Method(
                TRYING,
                "each group by the criterion whose choice does least, on held-out inputs",
                output_aware_curve,
                trying_pick,
            ),
            Method(
                "folding",
                "k-means on the filters; each cluster becomes one unit",
                folding_curve,
                folding_pick,
            ),
            *rankings(CRITERIA).values(),
            Method(
                "random",
                "baseline: random units go",
                random_curve,
                random_pick,
                worth=lambda table, tools: tools.rng.random(table.n_units),
            ),
        )
    }
)
"""Methods by name. Extend a copy: `METHODS | {"mine": Method(...)}`."""
