"""What the checks run that takes no result, begun before there is one.

Planning leaves a second core idle for most of its time, and so does writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from onnx_scsp.config import VerifyConfig
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.shapes import InputSpec
from onnx_scsp.proof.oracles import Known, Outputs, Reference, half_of, reference, run_twin
from onnx_scsp.proof.samples import in_batches
from onnx_scsp.proof.structure import Original, run_original
from onnx_scsp.types import AnyArray, ChannelGroup, PrunePlan


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """Results on their way; what they raise, they raise when they are asked for.

    Attributes:
        original: The original as it is.
        groups: The groups that are permuted.
        reference: The original under the oracles.
        pool: The thread that does it.
        threads: Of the runtime.
        plan: The plan, once there is one.
        twin: Its masked twin.
    """

    original: Future[Original]
    groups: tuple[ChannelGroup, ...]
    reference: Future[Reference]
    pool: ThreadPoolExecutor
    threads: int
    plan: PrunePlan | None = None
    twin: Future[list[Outputs]] | None = None

    def known(self, plan: PrunePlan) -> Known | None:
        """What the oracles may take from here, where it is about that very plan."""
        if self.twin is None or self.plan is not plan or self.groups is not plan.groups:
            return None
        return Known(self.reference, self.twin)


def look_ahead(
    a: Model,
    groups: tuple[ChannelGroup, ...],
    specs: tuple[InputSpec, ...],
    config: VerifyConfig,
    data: Mapping[str, AnyArray] | None = None,
) -> Ahead:
    """Begins to run the original beside whatever the caller goes on with.

    Args:
        a: The original, loaded from its file.
        groups: Those of the plan to come.
        specs: Inputs with concrete shapes.
        config: Tolerances and seeds.
        data: Inputs for the fidelity figures.

    Returns:
        What will be known.
    """
    look = None if data is None else in_batches(data, specs)
    threads, pool = half_of(config.threads), ThreadPoolExecutor(1)
    original = pool.submit(run_original, a, specs, config.seed, threads, look)
    seen = pool.submit(reference, a, groups, specs, config, threads)
    return Ahead(original, groups, seen, pool, threads)


def look_further(ahead: Ahead, a: Model, plan: PrunePlan) -> Ahead:
    """Goes on with the masked twin, beside the cut and the first checks of its result.

    Args:
        ahead: What is on its way.
        a: The original.
        plan: The plan.

    Returns:
        What will be known.
    """

    def twin() -> list[Outputs]:
        return run_twin(a, plan, ahead.reference.result().batches, ahead.threads)

    return replace(ahead, plan=plan, twin=ahead.pool.submit(twin))
