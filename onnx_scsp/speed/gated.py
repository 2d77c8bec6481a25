"""`prune` behind the gate: the result is never slower than the original."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from onnx_scsp.calibrated import passes
from onnx_scsp.calibration import CalibrationData
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import check_outputs
from onnx_scsp.graph.session import CPU
from onnx_scsp.measure.compare import Compare, Comparison, comparer
from onnx_scsp.measure.layers import layer_times
from onnx_scsp.measure.store import find_table, machine_for
from onnx_scsp.ops import RULES, RuleTable, approximating
from onnx_scsp.pipeline import prune
from onnx_scsp.plan import Choices
from onnx_scsp.plan.counts import Progress
from onnx_scsp.replan import Replanner
from onnx_scsp.results import PruneResult
from onnx_scsp.speed.candidate import with_candidate
from onnx_scsp.speed.gate import never_slower
from onnx_scsp.speed.widen import Widener
from onnx_scsp.surgery.operate import check_plan
from onnx_scsp.timing import LayerTimes, MachineTable
from onnx_scsp.types import PrunePlan

GATES = ("check", "widen", "off")
ProfileModel = Callable[[Model], LayerTimes]


def prune_gated(
    model: Model | str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: PruneConfig | None = None,
    *,
    gate: str = "check",
    plan: PrunePlan | None = None,
    threads: int = 2,
    provider: str = CPU,
    calibration: CalibrationData | None = None,
    cache: Path | None = None,
    plan_out: str | os.PathLike[str] | None = None,
    verify_config: VerifyConfig | None = None,
    verified: bool = True,
    same_graph: bool = False,
    rules: RuleTable = RULES,
    choices: Choices | None = None,
    machine: MachineTable | None = None,
    compare: Compare | None = None,
    profile: ProfileModel | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> PruneResult:
    """`onnx_scsp.prune`, and a look at the latency before anything is written.

    Args:
        model: Input file, or the model loaded from it.
        output: Output file.
        config: Budget and method.
        gate: `check` fails where the result is slower than the original, and changes nothing;
            `widen` first widens or undoes what does not pay, by measurement, and says so in the
            plan; `off` measures nothing.
        plan: A plan to carry out instead of making one.
        threads: Intra-op threads that are measured with.
        provider: Execution provider.
        calibration: Sample inputs to choose by and to repair the cut with.
        cache: A folder that keeps what the inputs say, for other budgets on the same model.
        plan_out: Where to write the plan.
        verify_config: Tolerances, seeds and input shapes.
        verified: Whether to check before writing; the gate is a check, too.
        same_graph: Accept a plan made for other weights of the same graph.
        rules: Operator rules.
        choices: Tables of methods, clusterers, criteria, compensators.
        machine: What widths cost, as for `onnx_scsp.make_plan`.
        compare: How two models compare; interleaved runs where None.
        profile: Times of a model's layers; the runtime's profile where None.
        progress: Called with (what, done, total).

    Returns:
        Figures, checks and the plan.

    Raises:
        VerifyError: The result is wrong, or slower than the original; nothing is written.
        ScspError: Any other of its children, with one sentence; nothing is written then.
    """
    if gate not in GATES:
        raise ConfigError(f"gate '{gate}' is unknown; use one of {', '.join(GATES)}")
    checking = verify_config or VerifyConfig()
    shapes = checking.input_shapes
    source = model if isinstance(model, Model) else load(model)
    check_outputs(source, Path(output), None if plan_out is None else Path(plan_out))
    compare = compare or comparer(threads=threads, provider=provider, input_shapes=shapes)
    if gate == "widen":
        ignore = tuple(plan.config.get("ignore", ())) if plan else (config or PruneConfig()).ignore
        bound = approximating(rules) if _is_approximate(plan, config) else rules
        coupling = find_coupling(source, rules=bound, ignore=ignore, input_shapes=shapes)
        if plan is not None:
            check_plan(coupling, plan, same_graph=same_graph)
        else:
            plan = _planned(
                coupling,
                config or PruneConfig(),
                calibration,
                choices,
                cache,
                machine,
                checking,
                progress,
            )
        plan = _widened(
            coupling,
            plan,
            bound,
            machine or find_table(threads=threads, provider=provider),
            compare,
            profile or _profiler(threads, provider, shapes),
            progress,
        )
    return prune(
        source,
        output,
        config,
        plan=plan,
        plan_out=plan_out,
        verify_config=checking,
        verified=verified,
        same_graph=same_graph,
        calibration=calibration,
        cache=cache,
        rules=rules,
        choices=choices,
        machine=machine,
        gate=never_slower(compare, threads) if gate != "off" and verified else None,
        progress=progress,
    )


def _is_approximate(plan: PrunePlan | None, config: PruneConfig | None) -> bool:
    if plan is not None:
        return bool(plan.config.get("approximate", False))
    return config is not None and config.approximate


def _profiler(threads: int, provider: str, shapes: Mapping[str, tuple[int, ...]]) -> ProfileModel:
    return lambda model: layer_times(model, threads=threads, provider=provider, input_shapes=shapes)


def _planned(
    coupling: Coupling,
    config: PruneConfig,
    calibration: CalibrationData | None,
    choices: Choices | None,
    cache: Path | None,
    machine: MachineTable | None,
    checking: VerifyConfig,
    progress: Progress,
) -> PrunePlan:
    planner = Replanner(
        coupling,
        config,
        passes(coupling, calibration, config),
        choices=choices,
        cache=cache,
        machine=machine_for(config.align, machine, checking.threads),
        threads=checking.threads,
        progress=progress,
    )
    return planner.plan(config.value)


def _widened(
    coupling: Coupling,
    plan: PrunePlan,
    rules: RuleTable,
    machine: MachineTable,
    compare: Compare,
    profile: ProfileModel,
    progress: Progress,
) -> PrunePlan:
    """The plan after whatever had to be widened, and what it says about that."""
    if not plan.cuts:
        return plan
    source = coupling.model

    def measure(candidate: PrunePlan) -> Comparison:
        return with_candidate(coupling, rules, candidate, lambda path: compare(source, path))

    def layers(candidate: PrunePlan) -> LayerTimes:
        return with_candidate(coupling, rules, candidate, lambda path: profile(load(path)))

    widener = Widener(coupling, plan, machine, measure, progress)
    widener.run(profile(source), layers)
    return replace(widener.plan, timing={**plan.timing, "gate": widener.record})
