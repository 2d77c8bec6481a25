"""Trying choices of units, on samples that nothing was fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from onnx_scsp.couple import Coupling
from onnx_scsp.observe.elimination import Read
from onnx_scsp.observe.judge import (
    Judge,
    affordable_samples,
    held_out_samples,
    outputs_of_known_size,
    repaired_weight,
)
from onnx_scsp.observe.reads import reads_of
from onnx_scsp.observe.statistics import Batch, LayerStatistics
from onnx_scsp.types import BoolArray, IntArray

_CHOICES = 8
"""About how many choices are tried for each pool."""


class Trials:
    """Judges choices of the units of any pool.

    Args:
        coupling: The model.
        pools: For each pool the global numbers of its units.
        found: What the layers see.
        batches: Sample inputs.
        threads: Threads of the runtime.
    """

    def __init__(
        self,
        coupling: Coupling,
        pools: Sequence[IntArray],
        found: Mapping[int, LayerStatistics],
        batches: Iterable[Batch],
        threads: int,
    ) -> None:
        self._coupling, self._pools, self._found = coupling, pools, found
        names = outputs_of_known_size(coupling)
        self._judge: Judge | None = None
        if names:
            samples = affordable_samples(coupling, len(pools) * _CHOICES)
            held = held_out_samples(coupling, batches, samples)
            self._judge = Judge(coupling, held, names, threads)

    def errors(self, pool: int, choices: Sequence[BoolArray]) -> list[float]:
        """What each choice does, its readers repaired.

        Args:
            pool: Number of the pool.
            choices: Bool (units of the pool,), which of them stay.

        Returns:
            Divergence of the outputs; where they cannot be compared, the readers' local error.
        """
        reads = reads_of(self._coupling, self._pools[pool], self._found)
        return [self._error(reads, keep) for keep in choices]

    def _error(self, reads: tuple[Read, ...], keep: BoolArray) -> float:
        repaired = [repaired_weight(read, keep) for read in reads]
        if self._judge is None:
            return sum(loss for _, loss in repaired)
        return self._judge.divergence(reads, [weight for weight, _ in repaired])
