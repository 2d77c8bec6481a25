"""Is the result a valid model with the same face: checker, interface, runs at two batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnx_scsp.errors import ModelError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import InferenceSession, open_session, random_feeds, run_session
from onnx_scsp.graph.shapes import InputSpec, spelled
from onnx_scsp.proof.compare import difference
from onnx_scsp.types import AnyArray, Check


def check_structure(a: Model, b: Model) -> Check:
    """The full ONNX checker, shape inference included, on the result.

    Where the original itself does not pass shape inference, the plain checker has to do.
    """
    assert a.path is not None
    assert b.path is not None
    message = _passes(b.path, full=True)
    if not message or not _passes(a.path, full=True):
        return Check("checker", message == "", detail=message or "full check")
    message = _passes(b.path, full=False)
    detail = "plain check (the original fails full shape inference)"
    return Check("checker", message == "", detail=message or detail)


def _passes(path: Path, *, full: bool) -> str:
    try:
        onnx.checker.check_model(str(path), full_check=full)
    except Exception as error:  # the checker raises several unrelated types
        return " ".join(str(error).split())[:300]
    return ""


def check_interface(a: Model, b: Model) -> Check:
    """Same names, types and shapes of inputs and outputs."""
    for kind in ("input", "output"):
        before, after = _face(a, kind), _face(b, kind)
        if before != after:
            changed = sorted(set(before) ^ set(after)) or [
                name for name in before if before[name] != after[name]
            ]
            return Check("interface", False, detail=f"{kind} '{changed[0]}' differs")
    return Check("interface", True, detail="names, types and shapes of inputs and outputs")


def _face(model: Model, kind: str) -> dict[str, bytes]:
    graph = model.proto.graph
    initializers = {tensor.name for tensor in graph.initializer}
    return {
        value.name: value.type.SerializeToString(deterministic=True)
        for value in getattr(graph, kind)
        if value.name not in initializers
    }


Look = Callable[[InferenceSession], dict[str, AnyArray]]
"""An open session -> outputs that are wanted of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """What was seen of two models in the runtime.

    Attributes:
        checks: The checks.
        outputs: Of each of them, to be compared further; empty where a check has failed.
    """

    checks: tuple[Check, ...]
    outputs: tuple[dict[str, AnyArray], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """What was seen of the original in the runtime.

    Attributes:
        batches: Sizes of the batches that it took, None for the one size of the file.
        outputs: Its outputs for each of them, of random inputs.
        looked: Its outputs that are compared further.
    """

    batches: tuple[int | None, ...]
    outputs: tuple[dict[str, AnyArray], ...]
    looked: dict[str, AnyArray]


def run_original(
    a: Model, specs: tuple[InputSpec, ...], seed: int, threads: int, look: Look | None
) -> Original:
    """Runs the original as it is.

    One that says it takes any batch and fails at 2 (another input's size goes with a batch of 1,
    say) is seen at 1 alone.

    Args:
        a: The original.
        specs: Inputs with concrete shapes.
        seed: Of their values.
        threads: Runtime threads.
        look: What to do with the open session for the outputs that are compared further; where
            None, those of the larger batch are.

    Raises:
        ModelError: It does not run, so that nothing can be proved.
    """
    assert a.path is not None
    dynamic = any(spec.dynamic and spec.dynamic[0] for spec in specs)
    batches: list[int | None] = [1, 2] if dynamic else [None]
    try:
        # for a few runs, making the graph fast takes longer than running it as it is
        session = open_session(a.path, threads=threads, optimise=look is not None)
        outputs = [run_session(session, random_feeds(specs, seed, batches[0]))]
    except ModelError as error:
        raise ModelError(
            f"the original does not run, so nothing can be proved of the result: {error} "
            f"(tried {spelled(specs)}; give other sizes with --input-shape)"
        ) from error
    with suppress(ModelError):  # what the original does not take is not asked of the result
        outputs += [run_session(session, random_feeds(specs, seed, b)) for b in batches[1:]]
    looked = outputs[-1] if look is None else look(session)
    return Original(tuple(batches[: len(outputs)]), tuple(outputs), looked)


def check_runs(
    a: Original,
    b: Model,
    specs: tuple[InputSpec, ...],
    seed: int,
    threads: int,
    look: Look | None,
) -> Runs:
    """The result runs where the original does, with equal output shapes and finite outputs.

    Args:
        a: What was seen of the original. (Its session is gone: two would hold the weights of both.)
        b: The result.
        specs: Inputs with concrete shapes.
        seed: Of their values.
        threads: Runtime threads.
        look: As for the original.

    Returns:
        The checks, and the outputs that are compared further.
    """
    assert b.path is not None
    shapes, finite = True, True
    try:
        session = open_session(b.path, threads=threads)
        for batch, outputs in zip(a.batches, a.outputs, strict=True):
            second = run_session(session, random_feeds(specs, seed, batch))
            found = difference(outputs, second)
            shapes &= found.shapes_agree
            finite &= found.finite
    except ModelError as error:
        return Runs((Check("runtime", False, detail=str(error)),))
    fixed = a.batches[0] is None
    sizes = "the fixed batch" if fixed else f"batch {' and '.join(map(str, a.batches))}"
    checks = (
        Check("runtime", shapes, detail=f"onnxruntime, {sizes}, equal output shapes"),
        Check("finite", finite, detail="no NaN or infinity where the original has none"),
    )
    if not (shapes and finite):
        return Runs(checks)
    return Runs(checks, (a.looked, second if look is None else look(session)))
