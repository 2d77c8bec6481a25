"""The table of schedules: who is softened while the network trains, how, and when the cut comes.

One epoch of the soft part, plan P from the weights at its start, n updates:

    P    = plan(weights)           clusters, scores, budget: `onnx_scsp.plan`
    s    = factor(epoch, epochs)   what is left of a slice of a unit outside P
    boundary schedules:            slice <- s slice once, before the first update
    continuous schedules:          slice <- s^(1/n) slice after every update
                                   (or the same towards a centroid)

All weights stay alive and train on; the next plan is made from what they have become, so a unit
that earned its place comes back. After the last soft epoch the plan of that moment is carried out
by the ordinary way of plan, surgery and verification; the epochs that remain train the cut network.

What may be set to zero decides who can come back. With its filter and its bias at 0, the ReLU
behind a unit passes no gradient: such a unit never comes back. `reads` zeroes the slices of the
layers that read a unit instead: the network then computes exactly what the cut network will, the
unit itself still works, and a reader's slice has a gradient from the first update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

Factor = Callable[[int, int], float]
"""(epoch, soft epochs) -> what is left of a softened slice, 0 to 1."""
_SHRINK = 8.0 * math.log(4.0)
"""beta E of the fractional schedule: three quarters of the way after one eighth of the epochs."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One way to retrain.

    Attributes:
        name: Name on the command line.
        doc: One line.
        select: How units are chosen: a method of the planner, or a score of `retrain.scores`.
        slices: Which slices of a unit are softened: `reads` (of its readers), `makes` (its
            filters), `scale` (its BatchNormalization's scale, its filters where it has none),
            `centroid` (filters and normalisation are pulled to the mean of the cluster), or `none`.
        factor: What is left of them, by epoch.
        continuous: Spread over the updates of an epoch rather than at its start.
        settle: Share of the epochs after the hard cut; 1 cuts first.
        compensate: What the cut does for the readers, as in `PruneConfig.compensate`.
    """

    name: str
    doc: str
    select: str
    slices: str = "reads"
    factor: Factor = lambda _epoch, _epochs: 0.0
    continuous: bool = False
    settle: float = 0.0
    compensate: str = "none"


def shrinking(epoch: int, epochs: int) -> float:
    """zeta(e) = 1 - theta(e) / theta_final with theta(e) = alpha exp(-beta e) + gamma (Gkalelis).

    alpha, beta, gamma follow from theta(0) = 0, theta(epochs) = theta_final and three quarters of
    it after an eighth of the epochs. The first epoch already softens, so e = epoch + 1.
    """
    share = (epoch + 1) / max(epochs, 1)
    return 1.0 - (1.0 - math.exp(-_SHRINK * share)) / (1.0 - math.exp(-_SHRINK))


def growing(epoch: int, epochs: int) -> float:
    """Pull that grows: 0.3 of a slice is left per epoch at first, 0.001 at last."""
    share = (epoch + 1) / max(epochs, 1)
    return float(0.3 ** (1.0 - share) * 0.001**share)


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        schedule.name: schedule
        for schedule in (
            Schedule(
                "scsp",
                "spectral clusters per group, inefficient clusters silenced anew every epoch "
                "(Zhuo et al., arXiv 1806.05320)",
                select="scsp",
                settle=0.4,
            ),
            Schedule(
                "scsp-decay",
                "as scsp, but inefficient clusters fade with every update, ever faster",
                select="scsp",
                factor=growing,
                continuous=True,
                settle=0.4,
            ),
            Schedule(
                "scsp-merge",
                "filters of one cluster are pulled together and merged at the cut "
                "(after Niu et al., arXiv 2206.08186)",
                select="one-per-cluster",
                slices="centroid",
                factor=growing,
                continuous=True,
                settle=0.4,
                compensate="merge",
            ),
            Schedule(
                "sfp",
                "soft filter pruning: filters of smallest L2 norm to zero every epoch "
                "(He et al., IJCAI 2018)",
                select="filter-norm",
                slices="makes",
            ),
            Schedule(
                "bn-gamma",
                "soft pruning by BatchNormalization scale: the smallest to zero every epoch "
                "(Xu et al., ICARCV 2020)",
                select="bn-scale",
                slices="scale",
            ),
            Schedule(
                "fractional",
                "filters that tell classes apart least shrink by a falling factor "
                "(Gkalelis and Mezaris, ICMEW 2020)",
                select="class-gap",
                slices="makes",
                factor=shrinking,
            ),
            Schedule(
                "one-per-cluster",
                "hard cut to one filter per cluster of one graph, then training "
                "(Li, Zhu, Sun, IEICE 2019)",
                select="one-per-cluster",
                slices="none",
                settle=1.0,
            ),
            Schedule(
                "finetune",
                "plain training of a network that a plan has cut",
                select="auto",
                slices="none",
                settle=1.0,
                compensate="auto",
            ),
        )
    }
)
"""Schedules by name. Extend a copy: `SCHEDULES | {"mine": Schedule(...)}`."""
