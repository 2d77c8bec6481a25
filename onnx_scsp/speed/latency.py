"""Prunes to a latency: measured and met here, or estimated for a device that is not here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.calibrated import passes
from onnx_scsp.calibration import CalibrationData
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import check_outputs
from onnx_scsp.measure.compare import Compare, Comparison, comparer
from onnx_scsp.measure.layers import layer_times
from onnx_scsp.measure.store import find_table, machine_for
from onnx_scsp.ops import RULES, RuleTable, approximating
from onnx_scsp.pipeline import prune
from onnx_scsp.plan import Choices
from onnx_scsp.plan.cost import Pool, make_pools
from onnx_scsp.plan.counts import Progress
from onnx_scsp.plan.latency import DeviceClock, LayerClock, ProfileClock, latency_model
from onnx_scsp.replan import Replanner
from onnx_scsp.results import PruneResult
from onnx_scsp.speed.candidate import with_candidate
from onnx_scsp.speed.gate import never_slower
from onnx_scsp.speed.search import Latency, LatencySearch, LatencyTrial
from onnx_scsp.surgery.cut import kept_units
from onnx_scsp.timing import DeviceTable, LayerTimes, MachineTable
from onnx_scsp.types import FloatArray, PrunePlan

_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Meters:
    """How times are taken; a test brings its own.

    Attributes:
        profile: Times of the original's layers; the runtime's profile where None.
        compare: Original and candidate side by side; interleaved runs where None.
    """

    profile: LayerTimes | None = None
    compare: Compare | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LatencyResult:
    """What `prune_to_latency` did.

    Attributes:
        result: The finished run.
        trials: The plans that were measured, in order; none for another device.
        goal: Latency asked for, as a fraction.
        latency: The same of the result: measured, or estimated for another device.
        is_estimate: Whether it is an estimate.
        original_ms: The original's latency, measured or estimated.
    """

    result: PruneResult
    trials: tuple[LatencyTrial, ...]
    goal: float
    latency: float
    is_estimate: bool
    original_ms: float


def prune_to_latency(
    model: Model | str | os.PathLike[str],
    output: str | os.PathLike[str],
    latency: Latency,
    config: PruneConfig | None = None,
    *,
    device: DeviceTable | None = None,
    calibration: CalibrationData | None = None,
    cache: Path | None = None,
    plan_out: str | os.PathLike[str] | None = None,
    verify_config: VerifyConfig | None = None,
    verified: bool = True,
    rules: RuleTable = RULES,
    choices: Choices | None = None,
    machine: MachineTable | None = None,
    meters: Meters | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> LatencyResult:
    """Plans to a latency, cuts, verifies, writes.

    Args:
        model: Input file, or the model loaded from it.
        output: Output file.
        latency: The goal, and the circumstances that it is measured under.
        config: Method and alignment; target and value are not used.
        device: Times of layers on a device that is not here: nothing is measured then, and the
            result's latency is an estimate.
        calibration: Sample inputs to choose by and to repair the cut with.
        cache: A folder that keeps what the inputs say, for other budgets on the same model.
        plan_out: Where to write the plan.
        verify_config: Tolerances, seeds and input shapes.
        verified: Whether to check before writing.
        rules: Operator rules.
        choices: Tables of methods, clusterers, criteria, compensators.
        machine: What widths cost, as for `onnx_scsp.make_plan`.
        meters: How times are taken.
        progress: Called with (what, done, total).

    Returns:
        Figures, checks, plan and trials.

    Raises:
        BudgetError: The latency cannot be reached; the text names what can.
        VerifyError: The result is wrong, or slower than the original; nothing is written.
        ScspError: Any other of its children, with one sentence; nothing is written then.
    """
    checking, meters = verify_config or VerifyConfig(), meters or Meters()
    config = replace(config or PruneConfig(), target="latency", value=0.5)
    source = model if isinstance(model, Model) else load(model)
    check_outputs(source, Path(output), None if plan_out is None else Path(plan_out))
    bound = approximating(rules) if config.approximate else rules
    coupling = find_coupling(
        source, rules=bound, ignore=config.ignore, input_shapes=checking.input_shapes
    )
    compare = meters.compare or comparer(
        threads=latency.threads,
        provider=latency.provider,
        batch=latency.batch,
        input_shapes=checking.input_shapes,
        thorough=True,
    )
    clock = _clock(source, latency, checking.input_shapes, device, meters, machine)
    planner = Replanner(
        coupling,
        config,
        passes(coupling, calibration, config),
        choices=choices,
        cache=cache,
        machine=machine_for(config.align, machine, latency.threads),
        clock=clock,
        threads=checking.threads,
        progress=progress,
    )
    if device is not None:
        plan, goal, record = _estimated(coupling, planner, clock, latency, device)
        trials: tuple[LatencyTrial, ...] = ()
    else:
        plan, goal, record, trials = _measured(coupling, planner, latency, compare, bound, progress)
    plan = replace(
        plan,
        config={**plan.config, "value": round(goal, 6)},
        timing={**plan.timing, "latency": record},
    )
    seen: list[Comparison] = []

    def watched(a: Model, b: Model | Path) -> Comparison:
        seen.append(compare(a, b))
        return seen[-1]

    result = prune(
        source,
        output,
        plan=plan,
        plan_out=plan_out,
        verify_config=checking,
        verified=verified,
        calibration=calibration,
        rules=rules,
        gate=None if device is not None else never_slower(watched, latency.threads),
        progress=progress,
    )
    final = seen[-1].ratio if seen else float(record.get("measured", record.get("estimated", 1.0)))
    return LatencyResult(
        result=replace(result, achieved=final),
        trials=trials,
        goal=goal,
        latency=final,
        is_estimate=device is not None,
        original_ms=float(record["original_ms"]),
    )


def _clock(
    source: Model,
    latency: Latency,
    shapes: Mapping[str, tuple[int, ...]],
    device: DeviceTable | None,
    meters: Meters,
    machine: MachineTable | None,
) -> LayerClock:
    if device is not None:
        return DeviceClock(device)
    times = meters.profile or layer_times(
        source,
        threads=latency.threads,
        provider=latency.provider,
        batch=latency.batch,
        input_shapes=shapes,
    )
    stairs = machine or find_table(threads=latency.threads, provider=latency.provider)
    return ProfileClock(times, stairs)


def _measured(
    coupling: Coupling,
    planner: Replanner,
    latency: Latency,
    compare: Compare,
    rules: RuleTable,
    progress: Progress,
) -> tuple[PrunePlan, float, dict[str, Any], tuple[LatencyTrial, ...]]:
    source = coupling.model
    original_ms = 0.0
    if latency.ms is not None:
        progress("timing the original", 0, 1)
        original_ms = compare(source, source).a_ms
    goal = latency.goal(original_ms)

    def measure(plan: PrunePlan) -> Comparison:
        progress(f"timing plan {len(search.trials) + 1}", len(search.trials), latency.most_trials)
        if not plan.cuts:
            return Comparison(1.0, 1.0, 1.0, 0.0, original_ms, original_ms)
        return with_candidate(coupling, rules, plan, lambda path: compare(source, path))

    search = LatencySearch(latency, goal, planner.plan, measure)
    plan, trial = search.run()
    record = {
        "asked": latency.asked,
        "goal": round(goal, 6),
        "planned": round(trial.value, 6),
        "measured": round(trial.ratio, _DIGITS),
        "noise": round(trial.noise, _DIGITS),
        "original_ms": round(trial.a_ms, _DIGITS),
        "threads": latency.threads,
        "provider": latency.provider,
        "trials": [[round(t.value, 6), round(t.ratio, _DIGITS)] for t in search.trials],
    }
    return plan, goal, record, tuple(search.trials)


def _estimated(
    coupling: Coupling,
    planner: Replanner,
    clock: LayerClock,
    latency: Latency,
    device: DeviceTable,
) -> tuple[PrunePlan, float, dict[str, Any]]:
    """One plan by a device table."""
    pools = make_pools(coupling, 1, 0.0)
    model = latency_model(coupling, pools, clock)
    whole = model.total(_kept(pools, None, coupling))
    goal = latency.goal(whole)
    plan = planner.plan(goal)
    estimate = model.total(_kept(pools, plan, coupling)) / whole
    record = {
        "asked": latency.asked,
        "goal": round(goal, 6),
        "estimated": round(estimate, _DIGITS),
        "original_ms": round(whole, _DIGITS),
        "table": device.name,
        "table_sha256": device.sha256,
    }
    return plan, goal, record


def _kept(pools: list[Pool], plan: PrunePlan | None, coupling: Coupling) -> FloatArray:
    if plan is None:
        return np.array([pool.size for pool in pools], float)
    keep = kept_units(coupling, plan)
    return np.array([keep[pool.global_units].sum() for pool in pools], float)
