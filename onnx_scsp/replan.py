"""Plans one model again and again: what does not depend on the budget is found out once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from onnx_scsp.calibrated import Passes, observer
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.observe import Evidence
from onnx_scsp.plan import Choices, Method, Tools, plan_cuts
from onnx_scsp.plan.counts import Progress
from onnx_scsp.plan.latency import LayerClock
from onnx_scsp.timing import MachineTable
from onnx_scsp.types import FloatArray, IntArray, PrunePlan
from onnx_scsp.units import UnitTable


class Replanner:
    """Makes plans that differ in their budget alone."""

    def __init__(
        self,
        coupling: Coupling,
        config: PruneConfig,
        inputs: Passes | None,
        *,
        choices: Choices | None = None,
        cache: Path | None = None,
        machine: MachineTable | None = None,
        clock: LayerClock | None = None,
        threads: int = 2,
        progress: Progress = lambda _what, _done, _total: None,
    ) -> None:
        self._coupling, self._config, self._inputs = coupling, config, inputs
        self._choices = _remembering(choices or Choices())
        self._machine, self._clock = machine, clock
        self._cache = cache
        self._threads, self._progress = threads, progress
        self._evidence: dict[tuple[bytes, ...], Evidence] = {}

    def plan(self, value: float) -> PrunePlan:
        """The plan for one budget.

        Raises:
            BudgetError: It cannot be reached.
        """
        return plan_cuts(
            self._coupling,
            replace(self._config, value=value),
            choices=self._choices,
            observe=None if self._inputs is None else self._observer(self._inputs),
            machine=self._machine,
            clock=self._clock,
            progress=self._progress,
        )

    def _observer(self, inputs: Passes) -> Callable[[Sequence[IntArray]], Evidence]:
        """Observes the same pools once."""
        observe = observer(
            self._coupling,
            inputs,
            self._config,
            threads=self._threads,
            progress=self._progress,
            cache=self._cache,
        )

        def once(pools: Sequence[IntArray]) -> Evidence:
            key = tuple(pool.tobytes() for pool in pools)
            if key not in self._evidence:
                self._evidence[key] = observe(pools)
            return self._evidence[key]

        return once


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


def plan_digest(plan: PrunePlan) -> str:
    """The same text for plans that cut the same."""
    cuts = [[c.group, c.keep, [*c.absorbed_by.items()], [*c.scales.items()]] for c in plan.cuts]
    return hashlib.sha256(json.dumps(cuts).encode()).hexdigest()[:32]
