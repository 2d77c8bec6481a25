"""Running two models on the same inputs and measuring how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_scsp.graph.apart import Variant, variant_of
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import (
    InferenceSession,
    add_outputs,
    open_apart,
    open_session,
    run_session,
)
from onnx_scsp.proof.unrounded import unrounded
from onnx_scsp.types import AnyArray

_ALIKE = ("Identity", "QuantizeLinear", "DequantizeLinear")
_SQUASHING = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "ArgMax", "Tanh"})


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two sets of outputs are apart.

    Attributes:
        largest: Largest absolute difference over the largest absolute output, worst output.
        mean: Mean absolute difference over the mean absolute output, worst output.
        finite: Whether all values of the second set are finite wherever the first set's are.
        shapes_agree: Whether all shapes are equal.
        agreement: Share of samples with the same largest class, for outputs that look like
            class scores (two axes, at least two classes); None where there is no such output.
    """

    largest: float
    mean: float
    finite: bool
    shapes_agree: bool
    agreement: float | None


def difference(a: Mapping[str, AnyArray], b: Mapping[str, AnyArray]) -> Difference:
    """Compares outputs by name.

    Args:
        a: Reference outputs.
        b: Outputs to judge; the same names.

    Returns:
        The worst figures over all outputs.
    """
    largest = mean = 0.0
    finite = agree = True
    agreement: float | None = None
    for name, left in a.items():
        right = b[name]
        if left.shape != right.shape:
            agree = False
            continue
        if not left.size:
            continue
        x, y = left.astype(np.float64), right.astype(np.float64)
        sound = np.isfinite(x)
        finite &= bool(np.isfinite(y[sound]).all())
        x, y = np.where(sound, x, 0.0), np.where(sound & np.isfinite(y), y, 0.0)
        gap = np.abs(x - y)
        largest = max(largest, float(gap.max() / max(np.abs(x).max(), 1e-30)))
        mean = max(mean, float(gap.mean() / max(np.abs(x).mean(), 1e-30)))
        if left.ndim == 2 and left.shape[1] > 1:
            same = float((x.argmax(axis=1) == y.argmax(axis=1)).mean())
            agreement = same if agreement is None else min(agreement, same)
    return Difference(largest, mean, finite, agree, agreement)


def probes(proto: onnx.ModelProto) -> dict[str, str]:
    """Outputs of a squashing last operator -> that operator's input, to be compared instead.

    A saturated Softmax or Sigmoid hides differences that its input shows, and where it is close to
    zero it shows rounding of its own that its input does not have.
    """
    producers = {name: node for node in proto.graph.node for name in node.output}
    found: dict[str, str] = {}
    for output in proto.graph.output:
        node = producers.get(output.name)
        while node is not None and node.op_type in _ALIKE:
            node = producers.get(node.input[0])
        if node is not None and node.op_type in _SQUASHING:
            found[output.name] = node.input[0]
    return found


@contextmanager
def running(
    make: Callable[[], Variant] | None,
    model: Model,
    inner: Mapping[str, str],
    threads: int,
) -> Iterator[Callable[[Mapping[str, AnyArray]], dict[str, AnyArray]]]:
    """Opens a variant of `model`, without graph optimisation, its activations unrounded.

    Args:
        make: Makes the variant; None for the model as it is.
        model: The model.
        inner: Outputs to leave out -> inner values to look at instead.
        threads: Runtime threads.

    Yields:
        Inputs -> value name -> array.
    """
    hidden = set(inner) - set(inner.values())
    with _opened(make, model, inner, threads) as session:

        def run(feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
            results = run_session(session, feeds)
            return {name: array for name, array in results.items() if name not in hidden}

        yield run


@contextmanager
def _opened(
    make: Callable[[], Variant] | None,
    model: Model,
    inner: Mapping[str, str],
    threads: int,
) -> Iterator[InferenceSession]:
    if make is None and model.is_stored and not inner and unrounded(model.proto) is model.proto:
        assert model.path is not None
        yield open_session(model.path, threads=threads, optimise=False)  # its file will do
        return
    variant = variant_of(model) if make is None else make()
    shown = unrounded(variant.proto)
    add_outputs(shown, inner.values())
    with open_apart(Variant(shown, variant.arrays), threads=threads) as session:
        yield session
