"""A case: what stands between two convolutions, and parts that many cases share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import independent_twin
import onnx
import onnxruntime
from net_builder import Net, image
from onnx import TensorProto

from onnx_scsp.types import FreezeReason

Fragment = Callable[[Net, str], str]
CHANNELS = 12
MIXES = FreezeReason.MIXES_CHANNELS


@dataclass(frozen=True)
class Case:
    """One operator between two convolutions."""

    name: str
    op_type: str
    fragment: Fragment
    held: FreezeReason | None = None
    opset: int = 17
    domain: str = ""

    def build(self) -> onnx.ModelProto:
        n, x = image(self.opset)
        x = n.conv(x, CHANNELS)
        y = self.fragment(n, x)
        n.channels[y] = CHANNELS
        return n.build(n.head(n.relu(n.conv(y, 8))), output_shape=["N", 5])


_KNOWS_ALL = (1, 31)
"""onnxruntime from which every case has to run; older supported versions lack some operators."""


@cache
def is_runnable(case: Case) -> bool:
    """Whether the installed onnx and onnxruntime can run the case as it is."""
    if case.opset > onnx.defs.onnx_opset_version():
        return False
    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) >= _KNOWS_ALL:
        return True
    model = case.build()
    try:  # with the runtime's optimisations: some versions fail in them
        session = onnxruntime.InferenceSession(model.SerializeToString())
        session.run(None, independent_twin.random_inputs(model, 0))
    except Exception:  # the runtime raises several unrelated types
        return False
    return True


def cast(n: Net, x: str, to: int = TensorProto.FLOAT) -> str:
    return str(n.op("Cast", x, to=to))


def positive(n: Net, x: str) -> str:
    return str(n.op("Add", n.op("Softplus", x), n.const(1.0)))


def bounded(n: Net, x: str) -> str:
    return str(n.op("Mul", n.op("Tanh", x), n.const(0.9)))


def other(n: Net) -> str:
    """A second activation of the same width, made from the input."""
    return n.conv("x", CHANNELS)
