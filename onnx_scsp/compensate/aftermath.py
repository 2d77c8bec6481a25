"""What a cut does to the outputs once everything behind it has been repaired.

Cut to K alone, with all layers behind it refitted (see `sweep`) on a first part of the samples,

    damage(K) = divergence of the network's outputs on the last part

Repairing only the readers of what goes says little about it: later layers make up for most of an
error that comes shortly before the end, and for little of one that many layers pass on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from onnx_scsp.compensate.sweep import reconstruct
from onnx_scsp.couple import Coupling
from onnx_scsp.graph.zeroing import zero_entries
from onnx_scsp.observe.judge import (
    Judge,
    has_fixed_batch,
    last_samples,
    outputs_of_known_size,
)
from onnx_scsp.observe.statistics import Batch, Progress, length_of
from onnx_scsp.observe.weights import WorkingCopy
from onnx_scsp.surgery.cut import masked_readers, masked_reductions
from onnx_scsp.types import BoolArray

REPAIRING_MACS = 1e13
"""What all sweeps together may cost, some minutes; fewer samples where a network is large."""
_FEWEST, _FEWEST_INVENTED, _MOST = 24, 64, 96
"""Samples that a sweep is fitted to: with fewer it would fit their noise, and what synthetic images
show of a network is the less like what it sees the fewer they are."""
_RUNS = 3
"""Passes through the network per sweep: the original, the cut one, and the outputs."""
_SHELF_BYTES = 1 << 28


class Aftermath:
    """Judges cuts by what is left of them after the repair.

    Args:
        coupling: The model.
        fitted: Samples that the repair sees.
        held: Samples that the outputs are compared on.
        names: Outputs that can be compared.
        by_channel: Whether layers are fitted from Gram matrices of channels.
        seed: Seed of the sampled positions.
        threads: How many cuts are judged at a time.

    Attributes:
        fitted: As given.
    """

    def __init__(
        self,
        coupling: Coupling,
        fitted: list[Batch],
        held: list[Batch],
        names: list[str],
        *,
        by_channel: bool,
        seed: int,
        threads: int,
    ) -> None:
        self._coupling, self.fitted = coupling, fitted
        self._samples = _count(fitted)
        self._by_channel, self._seed, self._threads = by_channel, seed, threads
        self._judge = Judge(coupling, held, names, 1)

    def __call__(self, keeps: Sequence[BoolArray], progress: Progress) -> list[float]:
        """Divergence of the outputs after each of these cuts.

        Args:
            keeps: Bool (units of the network,), which units stay.
            progress: Called with (what, cuts done, cuts).

        Returns:
            One figure per cut.
        """
        found: list[float] = []
        with ThreadPoolExecutor(max(self._threads, 1)) as pool:
            for value in pool.map(self._after, keeps):
                progress("measuring groups", len(found), len(keeps))
                found.append(value)
        progress("measuring groups", len(keeps), len(keeps))
        return found

    def _after(self, keep: BoolArray) -> float:
        coupling = self._coupling
        repair = reconstruct(
            coupling,
            keep,
            self.fitted,
            self._samples,
            seed=self._seed,
            by_channel=self._by_channel,
            thorough=False,
            shelf_bytes=_SHELF_BYTES,
        )
        copy = WorkingCopy(coupling.model, coupling.walk.constants)
        for name, array in {**masked_readers(coupling, keep), **repair.weights}.items():
            copy.set(name, array)
        zero_entries(copy.proto, masked_reductions(coupling, keep))
        return self._judge.compare(copy.proto)


def prepare_aftermath(
    coupling: Coupling,
    batches: Iterable[Batch],
    samples: int,
    cuts: int,
    *,
    work: float = REPAIRING_MACS,
    invented: bool = False,
    by_channel: bool,
    seed: int,
    threads: int,
) -> Aftermath | None:
    """Prepares to judge so many cuts, where that can be afforded.

    Args:
        coupling: The model.
        batches: Calibration inputs.
        samples: How many there are.
        cuts: How many cuts are to be judged.
        work: What that may cost, in MACs.
        invented: Whether the inputs are synthetic: a tenth of the work then, since who gives none
            expects an answer at once, and more samples at least.
        by_channel: Whether layers are fitted from Gram matrices of channels.
        seed: Seed of the sampled positions.
        threads: How many cuts are judged at a time.

    Returns:
        The judge; None where the network is too large, its outputs cannot be compared, or there are
        too few samples.
    """
    names = outputs_of_known_size(coupling)
    cost = coupling.work * _RUNS * max(cuts, 1) * (10 if invented else 1)
    affordable = min(int(work / cost), _MOST, samples // 2)
    fewest = _FEWEST_INVENTED if invented else _FEWEST
    if not names or affordable < fewest:
        return None
    whole = has_fixed_batch(coupling)
    held = last_samples(batches, affordable)
    if not whole:
        surplus = _count(held) - affordable
        held[0] = {name: array[surplus:] for name, array in held[0].items()}
    fitted: list[Batch] = []
    count, free = 0, samples - _count(held)
    for batch in batches:
        part = batch if whole else {n: array[: affordable - count] for n, array in batch.items()}
        if count >= affordable or count + length_of(part) > free:
            break
        fitted.append(part)
        count += length_of(part)
    if count < fewest:
        return None
    return Aftermath(
        coupling, fitted, held, names, by_channel=by_channel, seed=seed, threads=threads
    )


def _count(batches: list[Batch]) -> int:
    return sum(length_of(batch) for batch in batches)
