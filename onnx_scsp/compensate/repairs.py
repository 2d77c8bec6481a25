"""The table of repairs: new values for constants of a model whose cut comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx_scsp.compensate.fold import fold
from onnx_scsp.compensate.moments import match_moments
from onnx_scsp.compensate.sweep import Reconstruction, reconstruct
from onnx_scsp.couple import Coupling
from onnx_scsp.observe.statistics import Batch, Progress
from onnx_scsp.surgery.cut import kept_units
from onnx_scsp.types import PrunePlan


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a repair works with.

    Attributes:
        coupling: The model.
        plan: The plan.
        batches: Sample inputs; none for a repair that needs none.
        samples: How many there are.
        seed: Seed of sampled positions.
        threads: Threads of the runtime.
        progress: Called with (what, done, total).
    """

    coupling: Coupling
    plan: PrunePlan
    batches: Iterable[Batch]
    samples: int
    seed: int
    threads: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Repair:
    """One way to repair.

    Attributes:
        run: Finds new values.
        needs_inputs: Whether it works from sample inputs.
        by_channel: Of those that refit layer after layer, whether they do so from Gram matrices of
            channels; None for the others.
    """

    run: Callable[[Job], Reconstruction]
    needs_inputs: bool = True
    by_channel: bool | None = None


def _reconstruct(job: Job) -> Reconstruction:
    return reconstruct(
        job.coupling,
        kept_units(job.coupling, job.plan),
        job.batches,
        job.samples,
        seed=job.seed,
        threads=job.threads,
        progress=job.progress,
    )


def _gram(job: Job) -> Reconstruction:
    return reconstruct(
        job.coupling,
        kept_units(job.coupling, job.plan),
        job.batches,
        job.samples,
        seed=job.seed,
        threads=job.threads,
        by_channel=True,
        progress=job.progress,
    )


def _moments(job: Job) -> Reconstruction:
    return match_moments(
        job.coupling,
        job.plan,
        job.batches,
        job.samples,
        seed=job.seed,
        threads=job.threads,
        progress=job.progress,
    )


def _fold(job: Job) -> Reconstruction:
    return Reconstruction(fold(job.coupling, job.plan), ())


REPAIRS: Mapping[str, Repair] = MappingProxyType(
    {
        "reconstruct": Repair(_reconstruct, by_channel=False),
        "gram": Repair(_gram, by_channel=True),
        "bn": Repair(_moments),
        "fold": Repair(_fold, needs_inputs=False),
    }
)
"""Repairs by the name of the compensator that calls for them."""
