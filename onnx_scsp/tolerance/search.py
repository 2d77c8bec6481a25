"""Bisection on the budget.

    low, high = lowest, 1
    while high - low > resolution:
        plan, repair and cut at f = (low + high) / 2, then measure the result
        high = what f came to where its loss is within the tolerance, else low = f

A budget that cannot be reached raises `low` and costs a plan, no measurement. A smaller budget is
taken never to give a better model. What does not depend on the budget (coupling, what calibration
inputs say, loss curves) is computed once; equal cuts are measured once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx_scsp.calibrated import Passes
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import BudgetError
from onnx_scsp.figures import achieved as share_left
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.ops import RuleTable
from onnx_scsp.pipeline import carry_out, planned_macs, save
from onnx_scsp.plan import Choices
from onnx_scsp.plan.counts import Progress
from onnx_scsp.replan import Replanner, plan_digest
from onnx_scsp.timing import MachineTable
from onnx_scsp.tolerance.limits import Tolerance, Trial
from onnx_scsp.tolerance.state import Record
from onnx_scsp.types import Cost, PrunePlan

_DIGITS = 4
"""Of the fractions that are tried."""
Measure = Callable[[Model | Path], float]
"""A model -> its figure."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What every trial works with.

    Attributes:
        coupling: The model.
        config: Method and target.
        inputs: Inputs to choose by and to repair with, if there are any.
        rules: Operator rules.
        choices: Tables of methods, clusterers, criteria, compensators.
        shapes: Shapes for inputs with dynamic axes.
        threads: Threads of the runtime.
        machine: What widths cost, where alignment goes by that.
        measure: How a model is judged.
        progress: Called with (what, done, total).
    """

    coupling: Coupling
    config: PruneConfig
    inputs: Passes | None
    rules: RuleTable
    choices: Choices
    shapes: Mapping[str, tuple[int, ...]]
    threads: int
    machine: MachineTable | None
    measure: Measure
    progress: Progress
    cache: Path | None = None


class Search:
    """Bisection, and all that outlives one trial.

    Attributes:
        original: The original's figure.
        trials: The measured cuts, in order.
    """

    def __init__(self, bench: Bench, tolerance: Tolerance, record: Record) -> None:
        self._bench, self._tolerance, self._record = bench, tolerance, record
        self._planner = Replanner(
            bench.coupling,
            bench.config,
            bench.inputs,
            choices=bench.choices,
            cache=bench.cache,
            machine=bench.machine,
            threads=bench.threads,
            progress=bench.progress,
        )
        self._by_cuts: dict[str, Trial] = {}
        self.original = record.original or 0.0

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The measured cuts, in order."""
        return tuple(self._by_cuts.values())

    def run(self) -> PrunePlan:
        """The plan of the smallest cut that is tolerated.

        Raises:
            BudgetError: No cut is tolerated, or none can be made.
        """
        tolerance = self._tolerance
        found: tuple[float, PrunePlan] | None = None
        unreachable: BudgetError | None = None
        low, high = tolerance.lowest, 1.0
        while high - low > tolerance.resolution and len(self._by_cuts) < tolerance.most_trials:
            fraction = round((low + high) / 2, _DIGITS)
            try:
                plan = self._planner.plan(fraction)
            except BudgetError as error:
                low, unreachable = fraction, error
                continue
            if not plan.cuts:
                high = fraction
                continue
            trial = self._trial(fraction, plan)
            if not trial.within:
                low = fraction
                continue
            if found is None or trial.achieved < found[0]:
                found = trial.achieved, plan
            high = min(fraction, trial.achieved)
        if found is None and not self._by_cuts and unreachable is not None:
            raise unreachable
        if found is None:
            raise BudgetError(self._refusal())
        return found[1]

    def _trial(self, fraction: float, plan: PrunePlan) -> Trial:
        """Measures a cut, unless an equal one was measured before."""
        digest = plan_digest(plan)
        if digest in self._by_cuts:
            return self._by_cuts[digest]
        number, target = len(self._by_cuts) + 1, self._bench.config.target
        if digest not in self._record.figures:
            achieved, figure = self._judged(plan, f"trial {number}, {target} {fraction:g}")
            self._record.add(digest, fraction, achieved, figure)
        achieved, figure = self._record.figures[digest]
        loss = self._tolerance.loss(self.original, figure)
        within = self._tolerance.allows(self.original, figure)
        trial = self._by_cuts[digest] = Trial(fraction, achieved, figure, loss, within)
        told = f"{target} {achieved:.4f}, loss {loss:.4g}, {'within' if within else 'too much'}"
        self._bench.progress(f"trial {number}: {told}", number, self._tolerance.most_trials)
        return trial

    def _judged(self, plan: PrunePlan, title: str) -> tuple[float, float]:
        """What a cut comes to, and its figure."""
        bench = self._bench

        def progress(what: str, done: int, total: int) -> None:
            bench.progress(f"{title}: {what}", done, total)

        pruned = carry_out(
            bench.coupling,
            bench.rules,
            plan,
            bench.inputs,
            same_graph=False,
            threads=bench.threads,
            progress=progress,
        )
        with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
            path = Path(folder) / "candidate.onnx"
            save(pruned, path)
            progress("measuring", 0, 1)
            figure = bench.measure(path)
            return self._achieved(plan, path), figure

    def _achieved(self, plan: PrunePlan, path: Path) -> float:
        """The target's share that remains."""
        bench = self._bench
        coupling, target = bench.coupling, bench.config.target
        before = Cost(coupling.macs, coupling.map.params, 0)
        params = before.params
        if target == "params":
            result = find_coupling(load(path), rules=bench.rules, input_shapes=bench.shapes)
            params = result.map.params
        after = Cost(planned_macs(coupling, plan), params, 0)
        return share_left(target, before, after, plan)

    def _refusal(self) -> str:
        target, tolerance = self._bench.config.target, self._tolerance
        if not self._by_cuts:
            return f"no budget on {target} in steps of {tolerance.resolution:g} removes anything"
        mildest = max(self.trials, key=lambda trial: trial.achieved)
        option, told = "--max-divergence", f"diverges by {mildest.loss:.4g}"
        if tolerance.max_drop is not None:
            option = "--max-drop"
            told = f"loses {mildest.loss:.4g} ({self.original:.6g} -> {mildest.figure:.6g})"
        return (
            f"no cut stays within {option} {tolerance.limit:g}: the mildest of {len(self.trials)} "
            f"tried, {target} {mildest.achieved:.4f}, {told}"
        )
