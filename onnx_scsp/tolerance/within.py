"""The search from file to file; its winner is made and verified by `prune`."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_scsp.blas import one_blas_thread
from onnx_scsp.calibrated import Passes, passes
from onnx_scsp.calibration import CalibrationData
from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate import Predictor, divergence, evaluate
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import check_outputs
from onnx_scsp.measure.store import machine_for
from onnx_scsp.ops import RULES, RuleTable, approximating
from onnx_scsp.pipeline import Gate, prune
from onnx_scsp.plan import Choices
from onnx_scsp.plan.counts import Progress
from onnx_scsp.results import PruneResult
from onnx_scsp.timing import MachineTable
from onnx_scsp.tolerance.limits import Tolerance, Trial
from onnx_scsp.tolerance.search import Bench, Measure, Search
from onnx_scsp.tolerance.state import Record, check_state_path, identity

HELD_OUT = 0.25
"""Share of the calibration inputs that judges divergence and repairs nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class WithinTolerance:
    """The smallest model found.

    Attributes:
        result: What `prune` did for it.
        trials: The measured cuts, in order.
        original: The metric of the original; 0 for divergences.
        tolerance: What was asked for.
    """

    result: PruneResult
    trials: tuple[Trial, ...]
    original: float
    tolerance: Tolerance


@one_blas_thread()
def prune_within(
    model: Model | str | os.PathLike[str],
    output: str | os.PathLike[str],
    tolerance: Tolerance,
    config: PruneConfig | None = None,
    *,
    calibration: CalibrationData | None = None,
    cache: Path | None = None,
    state: str | os.PathLike[str] | None = None,
    plan_out: str | os.PathLike[str] | None = None,
    verify_config: VerifyConfig | None = None,
    rules: RuleTable = RULES,
    choices: Choices | None = None,
    machine: MachineTable | None = None,
    gate: Gate | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> WithinTolerance:
    """Finds the smallest model within a tolerance, cuts, verifies, writes.

    Args:
        model: Input file, or the model loaded from it.
        output: Output file; it appears only when a cut is tolerated and every check has passed.
        tolerance: How much worse the model may become.
        config: Method, and as `target` what is to become small; `value` is not used.
        calibration: Sample inputs to choose by and to repair the cut with; for a divergence a
            quarter of them only judges.
        cache: A folder that keeps what the inputs say, for other searches on the same model.
        state: A file that keeps the trials: an interrupted search goes on from it.
        plan_out: Where to write the plan.
        verify_config: Tolerances, seeds and input shapes.
        rules: Operator rules.
        choices: Tables of methods, clusterers, criteria, compensators. Like the code of the
            metric, neither they nor the rules are part of the state.
        machine: What widths cost, as for `onnx_scsp.make_plan`.
        gate: One more check, of the original and the finished file, before it is written.
        progress: Called with (what, done, total).

    Returns:
        Figures, checks, plan and trials.

    Raises:
        BudgetError: No cut is tolerated; the text has the figure of the mildest one.
        ConfigError: An option cannot be used, or the state belongs to another search.
        ScspError: Any other of its children, with one sentence; no model is written then.
    """
    begun = time.perf_counter()
    config, checking = config or PruneConfig(), verify_config or VerifyConfig()
    shapes = checking.input_shapes
    source = model if isinstance(model, Model) else load(model)
    check_outputs(source, Path(output), None if plan_out is None else Path(plan_out))
    learn, held = calibration, None
    if tolerance.max_divergence is not None:
        if calibration is None:
            raise ConfigError("--max-divergence is measured on sample inputs; give --calib DATA")
        learn, held = calibration.split(HELD_OUT)
    state_file = None
    if state is not None:
        state_file = Path(state)
        check_state_path(source, state_file, output, plan_out)
    parts = () if state_file is None else (part for part in (learn, held) if part is not None)
    record = Record(state_file, identity(source, config, tolerance, shapes, parts))
    bound = approximating(rules) if config.approximate else rules
    coupling = find_coupling(source, rules=bound, ignore=config.ignore, input_shapes=shapes)
    inputs = passes(coupling, learn, config)
    measure = _measure(source, tolerance, held, inputs, checking.threads)
    if record.original is None:
        record.add_original(measure(source) if tolerance.max_drop is not None else 0.0)
    bench = Bench(
        coupling,
        config,
        inputs,
        bound,
        choices or Choices(),
        shapes,
        checking.threads,
        machine_for(config.align, machine, checking.threads),
        measure,
        progress,
        cache,
    )
    search = Search(bench, tolerance, record)
    plan = search.run()
    searched = round(time.perf_counter() - begun, 4)
    result = prune(
        source,
        output,
        plan=plan,
        plan_out=plan_out,
        verify_config=checking,
        calibration=learn,
        rules=rules,
        gate=gate,
        progress=progress,
    )
    result = replace(result, seconds={"search": searched, **result.seconds})
    return WithinTolerance(result, search.trials, search.original, tolerance)


def _measure(
    source: Model,
    tolerance: Tolerance,
    held: CalibrationData | None,
    inputs: Passes | None,
    threads: int,
) -> Measure:
    """How a model is judged."""
    hook = tolerance.metric
    if hook is not None:
        return lambda model: tolerance.choose(evaluate(model, hook, threads=threads))
    if held is None or inputs is None:
        raise ConfigError("--max-divergence is measured on sample inputs; give --calib DATA")
    reference = Predictor(source, threads=threads)

    def apart(model: Model | Path) -> float:
        candidate = Predictor(model, threads=threads)
        found = divergence(reference, candidate, held, batch=inputs.size)
        return found if math.isfinite(found) else math.inf

    return apart
