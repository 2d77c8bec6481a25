"""What calibration inputs say about every pool of units: who goes first, and what that costs.

Two curves over the number k of units that stay:

    local(k)     error of the readers' outputs after their best linear repair, relative to the
                 variance of the place where they land (see `elimination`)
    damage(k)    divergence of the network's outputs when this pool alone is cut to k, measured at
                 some k, in between as local(k) grows

Where that can be afforded, everything behind the cut is repaired before the outputs are measured
(`after`), else its readers alone. The local error has the shape, and the measurement the size: a
small error in the wrong place can ruin the outputs, and a large one shortly before the end can be
made up for (docs/methods.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.observe.activity import activity_of
from onnx_scsp.observe.elimination import Elimination, Read, eliminate
from onnx_scsp.observe.judge import (
    Judge,
    affordable_samples,
    last_samples,
    outputs_of_known_size,
)
from onnx_scsp.observe.ranks import feature_ranks
from onnx_scsp.observe.reads import reads_of
from onnx_scsp.observe.statistics import Batch, Progress, collect
from onnx_scsp.observe.trials import Trials
from onnx_scsp.types import BoolArray, FloatArray, IntArray
from onnx_scsp.units import Activity

LEVELS = (0.9, 0.75, 0.55, 0.35)
"""Shares of a pool at which the outputs are measured when its readers are repaired."""
LEVELS_AFTER = (0.8, 0.5)
"""Shares of a pool at which they are measured when all layers behind it are repaired."""

After = Callable[[Sequence[BoolArray], Progress], list[float]]
"""Judges cuts, given as the units of the network that stay, by the outputs after the repair."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolEvidence:
    """One pool.

    Attributes:
        order: int (n,), rows of the pool from the first to go to the last.
        local: float64 (n + 1,), local error over the units that stay.
        damage: float64 (n + 1,), what the allocation weighs.
        activity: What inputs show about the units; None where nobody asked.
    """

    order: IntArray
    local: FloatArray
    damage: FloatArray
    activity: Activity | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All pools, in the planner's order.

    Attributes:
        pools: None for a pool that has one unit or that nothing reads which can be observed.
        trials: Judges other choices of a pool's units; None where nobody asked.
    """

    pools: tuple[PoolEvidence | None, ...]
    trials: Trials | None = None


def gather_evidence(
    coupling: Coupling,
    pools: Sequence[IntArray],
    batches: Iterable[Batch],
    samples: int,
    *,
    measured: bool = True,
    after: After | None = None,
    detailed: bool = False,
    ranked: bool = False,
    tried: bool = False,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = lambda _what, _done, _total: None,
) -> Evidence:
    """Observes the model on calibration inputs.

    Args:
        coupling: The model.
        pools: For each pool the global numbers of its units.
        batches: The inputs; gone through more than once.
        samples: How many there are.
        measured: Whether the network's outputs are measured, beside the local errors.
        after: Measures them after the repair; where None, the readers alone are repaired.
        detailed: Whether criteria and affinities want to know the units' activity.
        ranked: Whether they want the ranks of feature maps, too.
        tried: Whether other choices are to be judged.
        seed: Seed of the sampled positions.
        threads: Threads of the runtime.
        progress: Called with (what, done, total).

    Returns:
        Evidence per pool.
    """
    found = collect(coupling, batches, samples, seed=seed, threads=threads, progress=progress)
    names = outputs_of_known_size(coupling) if measured and after is None else []
    judge = None
    if names:
        # the last samples, because the statistics weigh all alike and any will do
        last = last_samples(batches, affordable_samples(coupling, len(pools) * len(LEVELS)))
        judge = Judge(coupling, last, names, threads)
    ranks = feature_ranks(coupling, batches, threads=threads) if ranked else None
    result: list[PoolEvidence | None] = []
    for place, units in enumerate(pools):
        progress("measuring groups", place, len(pools))
        # a unit one of a kind has no equals to make up for it
        reads = reads_of(coupling, units, found) if units.size > 1 else ()
        if not reads:
            result.append(None)
            continue
        way, damage = _observe(reads, units.size, judge)
        activity = activity_of(reads, way, ranks) if detailed else None
        result.append(PoolEvidence(way.order, way.loss, damage, activity))
    progress("measuring groups", len(pools), len(pools))
    if after is not None:
        result = _measure_after(coupling, pools, result, after, progress)
    trials = Trials(coupling, pools, found, batches, threads) if tried else None
    return Evidence(tuple(result), trials)


def _observe(
    reads: tuple[Read, ...], size: int, judge: Judge | None
) -> tuple[Elimination, FloatArray]:
    """Elimination of one pool, and what the allocation weighs."""
    levels = _counts(size, LEVELS)
    way = eliminate(reads, size, levels if judge is not None else ())
    if judge is None or not levels:
        return way, way.loss
    heights = [judge.divergence(reads, way.snapshots[level]) for level in levels]
    return way, _curve(way.loss, levels, heights)


def _measure_after(
    coupling: Coupling,
    pools: Sequence[IntArray],
    seen: Sequence[PoolEvidence | None],
    after: After,
    progress: Progress,
) -> list[PoolEvidence | None]:
    """The same pools with the damage that is left after the repair."""
    keeps: list[BoolArray] = []
    levels = [_counts(units.size, LEVELS_AFTER) for units in pools]
    for units, pool, counts in zip(pools, seen, levels, strict=True):
        if pool is None:
            continue
        for count in counts:
            keep = np.ones(coupling.n_units, bool)
            keep[units[pool.order[: units.size - count]]] = False
            keeps.append(keep)
    heights = iter(after(keeps, progress))
    found: list[PoolEvidence | None] = []
    for pool, counts in zip(seen, levels, strict=True):
        if pool is not None and counts:
            damage = _curve(pool.local, counts, [next(heights) for _ in counts])
            pool = replace(pool, damage=damage)
        found.append(pool)
    return found


def _counts(size: int, shares: Sequence[float]) -> list[int]:
    """Numbers of units at which outputs are measured, the smallest first."""
    return sorted({min(max(1, round(share * size)), size) for share in shares} - {size})


def _curve(loss: FloatArray, levels: list[int], measured: list[float]) -> FloatArray:
    """Divergence over the number of units that stay, float64 (n + 1,)."""
    # fewer units never hurt less; what says otherwise is noise
    heights = [*np.maximum.accumulate(np.array(measured)[::-1])[::-1], 0.0]
    at = loss[[*levels, loss.size - 1]]
    curve = np.interp(loss, at[::-1], heights[::-1])
    first = levels[0]
    curve[:first] = heights[0] * loss[:first] / max(loss[first], 1e-12)
    # what the readers do not miss is free
    curve[loss <= 0] = 0.0
    return np.asarray(np.maximum(curve, 0.0))
