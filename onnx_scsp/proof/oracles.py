"""The two numerical oracles: masked twin and permutation, each on several batches of inputs.

Between batches inputs differ in seed and scale. The twin is *loud*: the filters of the removed
units are replaced by large ones. No output may depend on what a removed unit computes, but an
operator that mixes channels shows small values no more than zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat

import numpy as np
import onnx

from onnx_scsp.config import VerifyConfig
from onnx_scsp.errors import ModelError
from onnx_scsp.graph.apart import Variant
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import random_feeds
from onnx_scsp.graph.shapes import InputSpec
from onnx_scsp.proof.compare import Difference, difference, probes, running
from onnx_scsp.proof.rewrite import masked_twin, permuted
from onnx_scsp.types import AnyArray, ChannelGroup, Check, PrunePlan

_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_AMPLIFIED = 5.0
"""Rounding in every layer, against one rounding step at the input."""
_INPUT_SCALES = (1.0, 0.01)
_BATCH_SCALES = (1.0, 0.5, 2.0)
"""Inputs of each batch, times the scale at which the network is calm; 1 for further ones."""
_COUNTS = (len(_BATCH_SCALES), 24)
"""Batches; the second where rounding alone decides the outputs of all of the first ones."""
_JOLTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Rounding steps by which inputs are changed to see whether a difference is more than rounding."""
_LARGEST_STEP = 1e-5
"""Several rounding steps of half precision would be more than rounding does."""
_CALM = 0.1
"""Noise at one batch, as a share of the limit, up to which it is not measured at the others."""
_MOST_RELAXED = 100.0
"""However sensitive a network is, a larger difference is no rounding."""

Feeds = Mapping[str, AnyArray]
Outputs = Mapping[str, AnyArray]
Run = Callable[[Feeds], dict[str, AnyArray]]
Maker = Callable[[], Variant]
Opener = Callable[[Maker | None, Model], AbstractContextManager[Run]]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Inputs, the original's outputs, what rounding may do to them, and what is allowed."""

    feeds: Feeds
    dense: Outputs
    noise: float
    limit: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One comparison, and whether it shows anything but rounding."""

    largest: float
    limit: float
    passed: bool
    steady: bool


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the oracles say of the original alone: it needs no result.

    Attributes:
        batches: Inputs, with the original's outputs.
        moved: What its outputs became when units were permuted, batch by batch.
    """

    batches: list[_Batch]
    moved: list[_Outcome]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What was begun before there was a result.

    Attributes:
        reference: What `reference` gives for the original and the plan's groups.
        twin: What `run_twin` gives for them.
    """

    reference: Future[Reference]
    twin: Future[list[Outputs]]


def reference(
    a: Model,
    groups: tuple[ChannelGroup, ...],
    specs: tuple[InputSpec, ...],
    config: VerifyConfig,
    threads: int,
) -> Reference:
    """Runs the original, and the original with permuted units.

    Args:
        a: The original.
        groups: Groups of its plan.
        specs: Inputs with concrete shapes.
        config: Tolerances and seeds.
        threads: Runtime threads.

    Raises:
        ModelError: One of them does not run.
    """
    opened = _opener(a, threads)
    other = partial(permuted, a, groups, config.seed)
    batches: list[_Batch] = []
    moved: list[_Outcome] = []
    for count in _COUNTS:
        batches = _batches(opened, a, specs, config.seed, _limit(a, config), count)
        outputs = _outputs(opened, other, a, batches)
        dense = [batch.dense for batch in batches]
        moved = _compare(opened, other, a, batches, outputs, dense)
        if any(outcome.steady for outcome in moved):
            break
    return Reference(batches, moved)


def run_twin(a: Model, plan: PrunePlan, batches: list[_Batch], threads: int) -> list[Outputs]:
    """Runs the masked twin.

    Args:
        a: The original.
        plan: Its plan.
        batches: Those of the reference.
        threads: Runtime threads.

    Raises:
        ModelError: It does not run.
    """
    return _outputs(_opener(a, threads), _twin_of(a, plan), a, batches)


def check_oracles(
    a: Model,
    b: Model,
    plan: PrunePlan,
    specs: tuple[InputSpec, ...],
    config: VerifyConfig,
    known: Known | None = None,
) -> list[Check]:
    """Masked twin and permutation.

    Args:
        a: The original.
        b: The result.
        plan: The plan that led from a to b.
        specs: Inputs with concrete shapes.
        config: Tolerances and seeds.
        known: What is on its way.

    Returns:
        One check per oracle, with the figures of its worst batch.
    """
    try:
        if known is not None:
            found = known.reference.result()
        else:
            found = reference(a, plan.groups, specs, config, config.threads)
        opened = _opener(a, config.threads if known is None else half_of(config.threads))
        pruned = _outputs(opened, None, b, found.batches)
        if known is not None:
            masked = known.twin.result()
        else:
            masked = run_twin(a, plan, found.batches, config.threads)
        outcomes = _compare(opened, _twin_of(a, plan), a, found.batches, masked, pruned)
    except ModelError as error:
        return [Check("masked twin", False, detail=str(error))]
    return [
        _verdict("masked twin", outcomes, "removal equals masking"),
        _verdict("permutation", found.moved, "coupled channels are complete"),
    ]


def _twin_of(a: Model, plan: PrunePlan) -> Maker:
    return partial(masked_twin, a, plan, loud=True)


def half_of(threads: int) -> int:
    """Threads of one of two sessions that run side by side."""
    return max(1, threads // 2)


def _opener(a: Model, threads: int) -> Opener:
    return partial(running, inner=probes(a.proto), threads=threads)


def _limit(a: Model, config: VerifyConfig) -> float:
    return config.half_tolerance if _is_half(a) else config.tolerance


def _outputs(
    opened: Opener, make: Maker | None, model: Model, batches: list[_Batch]
) -> list[Outputs]:
    with opened(make, model) as run:
        return [run(batch.feeds) for batch in batches]


def _compare(
    opened: Opener,
    make: Maker,
    model: Model,
    batches: list[_Batch],
    outputs: list[Outputs],
    others: list[Outputs],
) -> list[_Outcome]:
    """A variant's outputs against those that it should have, batch by batch.

    Where some differ, the variant is opened once more, to see what rounding does to it.
    """
    gaps = [difference(*two) for two in zip(outputs, others, strict=True)]
    three = list(zip(batches, outputs, gaps, strict=True))
    if all(_is_equal(gap, batch) for batch, _, gap in three):
        return [_Outcome(gap.largest, batch.limit, True, True) for batch, _, gap in three]
    with opened(make, model) as run:
        return [_outcome(run, batch, output, gap) for batch, output, gap in three]


def _is_equal(gap: Difference, batch: _Batch) -> bool:
    return gap.shapes_agree and gap.finite and gap.largest <= batch.limit


def _outcome(run: Run, batch: _Batch, outputs: Outputs, gap: Difference) -> _Outcome:
    passed = _is_equal(gap, batch)
    steady = passed or _is_steady(run, batch, outputs, gap)
    return _Outcome(gap.largest, batch.limit, passed, steady)


def _is_steady(run: Run, batch: _Batch, outputs: Outputs, found: Difference) -> bool:
    """Whether a difference is none that rounding alone makes, as where it decides who comes first.

    An output that picks and sorts (boxes, peaks) jumps where two candidates are level but for
    rounding; inputs changed by a few rounding steps then make jumps of the same size.
    """
    for seed, steps in enumerate(_JOLTS):
        jolted = difference(outputs, run(_nudged(batch.feeds, steps, seed)))
        if not jolted.shapes_agree or _AMPLIFIED * jolted.largest >= found.largest > 0:
            return False
    return True


def _batches(
    opened: Opener,
    a: Model,
    specs: tuple[InputSpec, ...],
    seed: int,
    limit: float,
    count: int,
) -> list[_Batch]:
    """The calmest inputs, and others about as calm; those that amplify rounding too far are left.

    Fewer or permuted channels add up in another order, which rounds differently; a network may
    amplify that as it amplifies any noise. What one rounding step of the input does to the output
    measures it.
    """
    most = _MOST_RELAXED * limit
    with opened(None, a) as run:

        def batch(place: int, scale: float, noise: float | None = None) -> _Batch:
            feeds = _scaled(random_feeds(specs, seed + 1 + place), scale)
            dense = run(feeds)
            if noise is None:
                noise = _AMPLIFIED * difference(dense, run(_nudged(feeds))).largest
            return _Batch(feeds, dense, noise, min(max(limit, noise), most))

        found: dict[float, _Batch] = {}
        for scale in _INPUT_SCALES:
            found[scale] = batch(0, scale)
            if found[scale].noise <= limit:
                break
        calm = min(found, key=lambda scale: found[scale].noise)
        noise = found[calm].noise
        known = noise if noise <= _CALM * limit else None
        scales = islice(chain(_BATCH_SCALES, repeat(1.0)), count)
        others = [batch(i, calm * s, known) for i, s in enumerate(scales) if i]
    return [found[calm], *(other for other in others if other.noise <= most)]


def _scaled(feeds: Feeds, scale: float) -> dict[str, AnyArray]:
    return {
        name: np.asarray(array * scale, array.dtype)
        if np.issubdtype(array.dtype, np.floating)
        else array
        for name, array in feeds.items()
    }


def _nudged(feeds: Feeds, steps: float = 1.0, seed: int = 0) -> dict[str, AnyArray]:
    """The same inputs, every float changed by so many rounding steps, up or down at random."""
    rng = np.random.default_rng(seed)
    nudged: dict[str, AnyArray] = {}
    for name, array in feeds.items():
        if np.issubdtype(array.dtype, np.floating):
            sign = rng.choice(np.array([-1.0, 1.0]), array.shape)
            eps = float(np.finfo(array.dtype).eps)
            step = max(eps, min(steps * eps, _LARGEST_STEP)) * sign
            nudged[name] = np.asarray(array * (1.0 + step), array.dtype)
        else:
            nudged[name] = array
    return nudged


def _verdict(name: str, outcomes: list[_Outcome], detail: str) -> Check:
    """The worst batch among those that show anything; there has to be one."""
    telling = [outcome for outcome in outcomes if outcome.steady] or outcomes
    worst = max(
        telling,
        key=lambda outcome: (not outcome.passed, outcome.largest / max(outcome.limit, 1e-30)),
    )
    return Check(name, worst.passed, worst.largest, worst.limit, detail)


def _is_half(model: Model) -> bool:
    kinds = {tensor.data_type for tensor in model.proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in model.proto.graph.input}
    return bool(kinds & set(_HALF))
