"""Bisection on the budget.

    low, high = max(lowest, reachable floor), 1
    while high - low > resolution:
        plan, repair and cut at f = (low + high) / 2, then measure the result
        high = what f came to where its loss is within the tolerance, else low = f

A smaller budget is taken never to give a better model. What does not depend on the budget (coupling,
what calibration inputs say, loss curves) is computed once; equal cuts are measured once.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_scsp.calibrated import Passes, observer
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.errors import BudgetError
from onnx_scsp.graph.model import Model
from onnx_scsp.observe import Evidence
from onnx_scsp.ops import RuleTable
from onnx_scsp.pipeline import carry_out, save
from onnx_scsp.plan import Choices, Method, Tools, plan_cuts
from onnx_scsp.plan.allocate import smallest
from onnx_scsp.plan.cost import macs_model, make_pools, params_model
from onnx_scsp.plan.planner import Progress
from onnx_scsp.tolerance.limits import Tolerance, Trial
from onnx_scsp.tolerance.state import Record
from onnx_scsp.types import FloatArray, IntArray, PrunePlan, UnitTable

_DIGITS = 4
"""Of the fractions that are tried."""
Measure = Callable[[Model | Path], float]
"""A model -> its figure."""


class Search:
    """Bisection; everything that outlives one trial."""

    def __init__(
        self,
        coupling: Coupling,
        config: PruneConfig,
        tolerance: Tolerance,
        inputs: Passes | None,
        measure: Measure,
        record: Record,
        rules: RuleTable,
        choices: Choices | None,
        threads: int,
        progress: Progress,
    ) -> None:
        self._coupling, self._config, self._tolerance = coupling, config, tolerance
        self._inputs, self._measure, self._record = inputs, measure, record
        self._rules, self._threads, self._progress = rules, threads, progress
        self._choices = _remembering(choices or Choices())
        self._evidence: list[Evidence] = []
        self._pools = make_pools(coupling, config.align, config.min_share)
        self.original = record.original or 0.0
        self._tried: dict[str, Trial] = {}

    @property
    def trials(self) -> list[Trial]:
        """The measured cuts, in order."""
        return list(self._tried.values())

    def run(self) -> PrunePlan:
        """The plan of the smallest cut that is tolerated."""
        found: tuple[float, PrunePlan] | None = None
        low, high = self._bracket(), 1.0
        tolerance = self._tolerance
        while high - low > tolerance.resolution and len(self._tried) < tolerance.most_trials:
            fraction = round((low + high) / 2, _DIGITS)
            try:
                plan = self._plan(fraction)
            except BudgetError:
                low = fraction
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
        if found is None:
            raise BudgetError(self._refusal())
        return found[1]

    def _bracket(self) -> float:
        """The lower end: no trial is wasted on what cannot be reached."""
        low = self._tolerance.lowest
        if not self._pools or (low := max(low, self._floor())) > 1.0 - self._tolerance.resolution:
            self._plan(self._tolerance.lowest)  # raises, and says what holds the model
        return low

    def _floor(self) -> float:
        if self._config.target == "ratio":
            return 0.0
        return self._share(smallest(self._pools))

    def _share(self, k: FloatArray) -> float:
        """What remains when pool p keeps k[p] units."""
        sizes = np.array([pool.size for pool in self._pools], float)
        if self._config.target == "ratio":
            return float(k.sum() / sizes.sum())
        model = macs_model if self._config.target == "macs" else params_model
        cost = model(self._coupling, self._pools)
        return cost.total(k) / max(cost.total(sizes), 1.0)

    def _plan(self, fraction: float) -> PrunePlan:
        return plan_cuts(
            self._coupling,
            replace(self._config, value=fraction),
            choices=self._choices,
            observe=self._observe if self._inputs is not None else None,
            progress=self._progress,
        )

    def _observe(self, pools: Sequence[IntArray]) -> Evidence:
        if not self._evidence and self._inputs is not None:
            observe = observer(
                self._coupling, self._inputs, seed=self._config.seed, threads=self._threads,
                progress=self._progress,
            )  # fmt: skip
            self._evidence.append(observe(pools))
        return self._evidence[0]

    def _trial(self, fraction: float, plan: PrunePlan) -> Trial:
        """Measures a cut, unless an equal one was measured before."""
        digest = _digest(plan)
        if digest in self._tried:
            return self._tried[digest]
        number, target = len(self._tried) + 1, self._config.target
        keep = {cut.group: cut.keep for cut in plan.cuts}
        counts = [
            int(np.isin(pool.units, keep[pool.group]).sum()) if pool.group in keep else pool.size
            for pool in self._pools
        ]
        achieved = self._share(np.array(counts, float))
        if digest not in self._record.figures:
            figure = self._judged(plan, f"trial {number}, {target} {fraction:g}")
            self._record.add(digest, fraction, achieved, figure)
        figure = self._record.figures[digest]
        loss = self._tolerance.loss(self.original, figure)
        within = self._tolerance.allows(self.original, figure)
        trial = self._tried[digest] = Trial(fraction, achieved, figure, loss, within)
        told = f"{target} {achieved:.4f}, loss {loss:.4g}, {'within' if within else 'too much'}"
        self._progress(f"trial {number}: {told}", number, self._tolerance.most_trials)
        return trial

    def _judged(self, plan: PrunePlan, title: str) -> float:
        def progress(what: str, done: int, total: int) -> None:
            self._progress(f"{title}: {what}", done, total)

        pruned = carry_out(
            self._coupling, self._rules, plan, self._inputs,
            same_graph=False, threads=self._threads, progress=progress,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
            path = Path(folder) / "candidate.onnx"
            save(pruned, path)
            progress("measuring", 0, 1)
            return self._measure(path)

    def _refusal(self) -> str:
        target, tolerance = self._config.target, self._tolerance
        if not self._tried:
            return f"no budget on {target} removes anything; lower --align or --min-share"
        mildest = max(self.trials, key=lambda trial: trial.achieved)
        told = f"diverges by {mildest.loss:.4g}"
        if tolerance.max_drop is not None:
            told = (
                f"loses {mildest.loss:.4g} ({mildest.figure:.6g}, the original {self.original:.6g})"
            )
        option = "--max-divergence" if tolerance.max_drop is None else "--max-drop"
        return (
            f"no cut stays within {option} {tolerance.limit:g}: the mildest of {len(self._tried)} "
            f"tried, {target} {mildest.achieved:.4f}, {told}"
        )


def _remembering(choices: Choices) -> Choices:
    """The same tables, with methods that draw each loss curve once."""
    return replace(choices, methods={k: _once(m) for k, m in choices.methods.items()})


def _once(method: Method) -> Method:
    drawn: dict[tuple[str, bytes], FloatArray] = {}

    def curve(table: UnitTable, tools: Tools) -> FloatArray:
        key = table.group, table.units.tobytes()
        if key not in drawn:
            drawn[key] = method.curve(table, tools)
        return drawn[key]

    return replace(method, curve=curve)


def _digest(plan: PrunePlan) -> str:
    cuts = [[c.group, c.keep, [*c.absorbed_by.items()], [*c.scales.items()]] for c in plan.cuts]
    return hashlib.sha256(json.dumps(cuts).encode()).hexdigest()[:32]
