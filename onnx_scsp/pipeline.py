"""The recipe: load, couple, plan, operate, verify, write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from onnx_scsp.blas import one_blas_thread
from onnx_scsp.calibrated import Passes, needs_repair, observer, passes, repair, with_values
from onnx_scsp.calibration import CalibrationData
from onnx_scsp.compensate import LayerFit
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.figures import Clock, achieved, input_bytes, layer_widths
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model, is_light
from onnx_scsp.graph.save import check_output, check_outputs, write_text
from onnx_scsp.graph.save import save as save_proto
from onnx_scsp.measure.store import machine_for
from onnx_scsp.ops import RULES, RuleTable, approximating
from onnx_scsp.plan import Choices, plan_cuts, plan_to_json
from onnx_scsp.plan.counts import Progress
from onnx_scsp.proof import look_ahead, look_further, verify_files
from onnx_scsp.results import PrunedModel, PruneResult, require_passed
from onnx_scsp.surgery import operate
from onnx_scsp.surgery.cut import kept_units
from onnx_scsp.surgery.operate import check_plan
from onnx_scsp.timing import MachineTable
from onnx_scsp.types import AnyArray, Check, Cost, PrunePlan, VerifyReport

Gate = Callable[[Model, Model], Check]


def _silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


@one_blas_thread()
def make_plan(
    model: Model,
    config: PruneConfig | None = None,
    *,
    rules: RuleTable = RULES,
    choices: Choices | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    calibration: CalibrationData | None = None,
    cache: Path | None = None,
    machine: MachineTable | None = None,
    threads: int = 2,
    progress: Progress = _silent,
) -> PrunePlan:
    """Decides which channels of a model stay.

    Args:
        model: The model.
        config: Budget and method.
        rules: Operator rules.
        choices: Tables of methods, clusterers, criteria, compensators.
        input_shapes: Shapes for inputs with dynamic axes.
        calibration: Sample inputs (`onnx_scsp.open_calibration`) to choose by.
        cache: A folder that keeps what the inputs say, for other budgets on the same model.
        machine: What widths cost, for `align` = `auto`; where None, the table that `onnx-scsp
            profile` has stored on this machine for as many threads, else the shipped one.
        threads: Threads of the runtime.
        progress: Called with (what, done, total).

    Returns:
        The plan.

    Raises:
        ModelError: There is nothing to prune.
        ConfigError: An option names nothing.
        BudgetError: The budget cannot be reached.
    """
    config = config or PruneConfig()
    rules = approximating(rules) if config.approximate else rules
    coupling = find_coupling(model, rules=rules, ignore=config.ignore, input_shapes=input_shapes)
    inputs = passes(coupling, calibration, config)
    return _plan(coupling, config, inputs, choices, cache, machine, threads, progress)


def _plan(
    coupling: Coupling,
    config: PruneConfig,
    inputs: Passes | None,
    choices: Choices | None,
    cache: Path | None,
    machine: MachineTable | None,
    threads: int,
    progress: Progress,
) -> PrunePlan:
    observe = None
    if inputs is not None:
        observe = observer(
            coupling, inputs, config, threads=threads, progress=progress, cache=cache
        )
    return plan_cuts(
        coupling,
        config,
        choices=choices,
        observe=observe,
        machine=machine_for(config.align, machine, threads),
        progress=progress,
    )


@one_blas_thread()
def apply_plan(
    model: Model,
    plan: PrunePlan,
    *,
    rules: RuleTable = RULES,
    same_graph: bool = False,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    calibration: CalibrationData | None = None,
    threads: int = 2,
    progress: Progress = _silent,
) -> PrunedModel:
    """Carries a plan out in memory; `save` writes the result.

    Args:
        model: The model that the plan was made for.
        plan: The plan.
        rules: Operator rules.
        same_graph: Accept a plan made for other weights of the same graph.
        input_shapes: Shapes for inputs with dynamic axes.
        calibration: Sample inputs to repair the cut with, where the plan wants that.
        threads: Threads of the runtime, where there are such inputs.
        progress: Called with (what, done, total).

    Returns:
        The pruned model.

    Raises:
        PlanError: Plan and model do not belong together.
        ConfigError: The plan wants a repair and there are no inputs.
    """
    ignore = tuple(plan.config.get("ignore", ()))
    rules = _rules_of(plan, rules)
    coupling = find_coupling(model, rules=rules, ignore=ignore, input_shapes=input_shapes)
    inputs = passes(coupling, calibration, plan.config)
    return carry_out(coupling, rules, plan, inputs, same_graph, threads, progress)


def carry_out(
    coupling: Coupling,
    rules: RuleTable,
    plan: PrunePlan,
    inputs: Passes | None,
    same_graph: bool,
    threads: int,
    progress: Progress,
) -> PrunedModel:
    """Repairs where the plan says so, then cuts: `apply_plan` for a coupled model."""
    check_plan(coupling, plan, same_graph=same_graph)
    source, macs = coupling.model, planned_macs(coupling, plan)
    fits: tuple[LayerFit, ...] = ()
    if needs_repair(plan.config) and plan.cuts:
        found = repair(coupling, plan, inputs, threads=threads, progress=progress)
        plan, fits = found.plan, found.fits
        coupling = with_values(coupling, found.model)
    proto = operate(coupling, rules, plan, same_graph=same_graph)
    repaired = coupling.model if coupling.model is not source else None
    return PrunedModel(source, proto, plan, macs, repaired, fits)


def planned_macs(coupling: Coupling, plan: PrunePlan) -> int:
    """MACs that remain after a plan, from the labels alone."""
    keep = kept_units(coupling, plan)
    return round(sum(term.macs_with(keep) for term in coupling.costs))


def save(
    model: Model | PrunedModel,
    path: str | os.PathLike[str],
    *,
    check: Callable[[Path], None] | None = None,
) -> int:
    """Writes a model atomically, its external data beside it.

    Args:
        model: A loaded model (copied byte for byte) or a pruned one.
        path: Output file.
        check: Called with the finished temporary file; whatever it raises stops the writing.

    Returns:
        Bytes written.

    Raises:
        OutputError: The output cannot be written.
    """
    if isinstance(model, Model):
        return save_proto(None, model, path, check)
    return save_proto(model.proto, model.source, path, check)


def save_plan(plan: PrunePlan, path: str | os.PathLike[str], model: Model) -> None:
    """Writes a plan file atomically.

    Args:
        plan: The plan.
        path: Output file.
        model: The model it was made for, which must not be overwritten.

    Raises:
        OutputError: The file cannot be written.
    """
    check_output(model, Path(path))
    write_text(plan_to_json(plan), path)


def verify(
    a: Model | str | os.PathLike[str],
    b: Model | PrunedModel | str | os.PathLike[str],
    plan: PrunePlan | None = None,
    *,
    config: VerifyConfig | None = None,
    data: Mapping[str, AnyArray] | None = None,
    rules: RuleTable = RULES,
) -> VerifyReport:
    """Checks a result against its original.

    Args:
        a: The original.
        b: The result; a pruned model in memory is written to a scratch folder first.
        plan: The plan that led there (taken from a pruned model where None).
        config: Tolerances and seeds.
        data: Inputs for the fidelity figures.
        rules: Operator rules, for measuring MACs.

    Returns:
        The checks.

    Raises:
        ModelError: A file cannot be read.
        PlanError: The plan was made for another model.
    """
    first = a if isinstance(a, Model) else load(a)
    if isinstance(b, PrunedModel):
        with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
            path = Path(folder) / "result.onnx"
            save(b, path)
            return verify(first, path, plan or b.plan, config=config, data=data, rules=rules)
    second = b if isinstance(b, Model) else load(b)
    macs = None
    if plan is not None:
        shapes = config.input_shapes if config is not None else None
        ignore = tuple(plan.config.get("ignore", ()))
        rules = _rules_of(plan, rules)
        coupling = find_coupling(first, rules=rules, ignore=ignore, input_shapes=shapes)
        measured = find_coupling(second, rules=rules, input_shapes=shapes).macs
        macs = (planned_macs(coupling, plan), measured)
    return verify_files(first, second, plan, config=config, data=data, macs=macs)


@one_blas_thread()
def prune(
    model: Model | str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: PruneConfig | None = None,
    *,
    plan: PrunePlan | None = None,
    plan_out: str | os.PathLike[str] | None = None,
    verify_config: VerifyConfig | None = None,
    verified: bool = True,
    same_graph: bool = False,
    data: Mapping[str, AnyArray] | None = None,
    calibration: CalibrationData | None = None,
    cache: Path | None = None,
    rules: RuleTable = RULES,
    choices: Choices | None = None,
    machine: MachineTable | None = None,
    gate: Gate | None = None,
    progress: Progress = _silent,
) -> PruneResult:
    """Plans (or takes a plan), cuts, verifies, writes.

    Args:
        model: Input file, or the model loaded from it.
        output: Output file; it appears only when every check has passed.
        config: Budget and method.
        plan: A plan to carry out instead of making one.
        plan_out: Where to write the plan, after the checks have passed.
        verify_config: Tolerances, seeds and input shapes.
        verified: Whether to check before writing.
        same_graph: Accept a plan made for other weights of the same graph.
        data: Inputs for the fidelity figures.
        calibration: Sample inputs (`onnx_scsp.open_calibration`) to choose by and to repair the
            cut with; no labels.
        cache: A folder that keeps what the inputs say, for other budgets on the same model.
        rules: Operator rules.
        choices: Tables of methods, clusterers, criteria, compensators.
        machine: What widths cost, as for `make_plan`.
        gate: One more check, of the original and the result as it was written to a temporary file.
        progress: Called with (what, done, total).

    Returns:
        Figures, checks and the plan.

    Raises:
        ScspError: Any of its children, with one sentence; nothing is written then.
    """
    clock = Clock()
    config = config or PruneConfig()
    checking = verify_config or VerifyConfig()
    source = model if isinstance(model, Model) else load(model)
    check_outputs(source, Path(output), None if plan_out is None else Path(plan_out))
    clock.lap("load")
    ignore = config.ignore if plan is None else tuple(plan.config.get("ignore", ()))
    if plan is not None:
        rules = _rules_of(plan, rules)
    elif config.approximate:
        rules = approximating(rules)
    shapes = checking.input_shapes
    coupling = find_coupling(source, rules=rules, ignore=ignore, input_shapes=shapes)
    clock.lap("couple")
    inputs = passes(coupling, calibration, config if plan is None else plan.config)
    ahead = None
    if plan is None:
        if verified and inputs is None and is_light(source):
            ahead = look_ahead(source, coupling.map.groups, coupling.walk.specs, checking, data)
        plan = _plan(coupling, config, inputs, choices, cache, machine, checking.threads, progress)
    if ahead is not None:
        ahead = look_further(ahead, source, plan)
    clock.lap("plan")
    pruned = carry_out(coupling, rules, plan, inputs, same_graph, checking.threads, progress)
    plan = pruned.plan
    plan = _rebased(plan, source) if same_graph else plan
    clock.lap("repair and cut" if pruned.fits else "cut")
    found: list[tuple[Coupling, VerifyReport]] = []

    def check(path: Path) -> None:
        progress("verifying", 0, 1)
        result = load(path, checked=not verified)  # which checks it in full
        after = find_coupling(result, rules=rules, input_shapes=shapes)
        report = VerifyReport(())
        if verified:
            macs = (pruned.planned_macs, after.macs)
            report = verify_files(
                source,
                result,
                plan,
                config=checking,
                data=data,
                macs=macs,
                repaired=pruned.repaired,
                ahead=ahead,
            )
        if gate is not None and pruned.proto is not None:
            report = VerifyReport((*report.checks, gate(source, result)))
        require_passed(report)
        found.append((after, report))
        progress("verifying", 1, 1)

    size_bytes = save(pruned, output, check=check)
    clock.lap("verify and write")
    after, report = found[0]
    if plan_out is not None:
        write_text(plan_to_json(plan), plan_out)
    before_cost = Cost(coupling.macs, coupling.map.params, input_bytes(source))
    after_cost = Cost(after.macs, after.map.params, size_bytes)
    target = (str(plan.config.get("target", "")), float(plan.config.get("value", 0.0)))
    return PruneResult(
        output=Path(output),
        plan=plan,
        before=before_cost,
        after=after_cost,
        target=target,
        achieved=achieved(target[0], before_cost, after_cost, plan),
        report=report,
        seconds=clock.laps,
        layers=layer_widths(coupling, after),
        fits=pruned.fits,
    )


def _rules_of(plan: PrunePlan, rules: RuleTable) -> RuleTable:
    """The rules that a plan was made by."""
    return approximating(rules) if plan.config.get("approximate", False) else rules


def _rebased(plan: PrunePlan, source: Model) -> PrunePlan:
    """The same plan under the hash of the model that it is now applied to."""
    return replace(plan, model_sha256=source.sha256)
