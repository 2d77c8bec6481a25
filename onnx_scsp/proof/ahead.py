"""What the checks run of the original alone, begun before there is a result.

Planning leaves a second core idle for most of its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from onnx_scsp.config import VerifyConfig
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.shapes import input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.proof.oracles import Reference, half_of, reference
from onnx_scsp.proof.samples import in_batches
from onnx_scsp.proof.structure import Original, run_original
from onnx_scsp.types import AnyArray, ChannelGroup


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """Results on their way; what they raise, they raise when they are asked for.

    Attributes:
        original: The original as it is.
        reference: The original under the oracles.
        groups: The groups that were permuted.
    """

    original: Future[Original]
    reference: Future[Reference]
    groups: tuple[ChannelGroup, ...]


def look_ahead(
    a: Model,
    groups: tuple[ChannelGroup, ...],
    config: VerifyConfig,
    data: Mapping[str, AnyArray] | None = None,
) -> Ahead:
    """Begins to run the original beside whatever the caller goes on with.

    Args:
        a: The original, loaded from its file.
        groups: Those of the plan to come.
        config: Tolerances and seeds.
        data: Inputs for the fidelity figures.

    Returns:
        What will be known.
    """
    graph = view(a.proto)
    specs = input_specs(a, graph, Constants(a, graph), config.input_shapes)
    look = None if data is None else in_batches(data, specs)
    threads, pool = half_of(config), ThreadPoolExecutor(1)
    ahead = Ahead(
        pool.submit(run_original, a, specs, config.seed, threads, look),
        pool.submit(reference, a, groups, specs, config, threads),
        groups,
    )
    pool.shutdown(wait=False)  # the two go on; nothing else will come
    return ahead
