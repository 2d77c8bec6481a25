"""One small graph per case: a node, its operands, and who says what it should compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import open_session, run_session

IR_OF_OPSET = {23: 11, 24: 11}


@dataclass(frozen=True)
class Case:
    """A node on given operands.

    `stored` places are initializers, the others graph inputs; a None operand is absent. Where onnx
    does not know the operator its output has `elem_type`, or the type of the first operand.
    """

    op: str
    operands: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    stored: tuple[int, ...] = ()
    outputs: int = 1
    domain: str = ""
    by_reference: bool = False
    skip_outputs: tuple[int, ...] = ()
    elem_type: int = 0

    def __str__(self) -> str:
        shown = ",".join(f"{k}={v}" for k, v in self.attributes.items() if np.size(v) < 9)
        return f"{self.op}-{self.opset}-{shown}"[:70]

    def model(self) -> Model:
        names = ["" if x is None else f"x{i}" for i, x in enumerate(self.operands)]
        results = ["" if i in self.skip_outputs else f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(
            self.op, names, results, name="node", domain=self.domain, **self.attributes
        )
        given = {n: np.asarray(x) for n, x in zip(names, self.operands, strict=True) if n}
        stored = {f"x{place}" for place in self.stored}
        graph = helper.make_graph(
            [node],
            "case",
            [
                helper.make_tensor_value_info(
                    n, helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape)
                )
                for n, x in given.items()
                if n not in stored
            ],
            [helper.make_value_info(name, onnx.TypeProto()) for name in results if name],
            [numpy_helper.from_array(x, n) for n, x in given.items() if n in stored],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        proto = helper.make_model(graph, opset_imports=opsets)
        proto.ir_version = IR_OF_OPSET.get(self.opset, 8)
        for output, kind in zip(proto.graph.output, self._types(proto), strict=True):
            output.type.tensor_type.elem_type = kind
        return from_proto(proto)

    def _types(self, proto: onnx.ModelProto) -> list[int]:
        """Element types of the outputs, which onnxruntime infers but onnx wants to see."""
        inferred = onnx.shape_inference.infer_shapes(proto)
        first = self.elem_type or helper.np_dtype_to_tensor_dtype(
            np.asarray(self.operands[0]).dtype
        )
        return [output.type.tensor_type.elem_type or first for output in inferred.graph.output]

    def feeds(self) -> dict[str, np.ndarray]:
        return {
            f"x{i}": np.asarray(x)
            for i, x in enumerate(self.operands)
            if x is not None and i not in self.stored
        }

    def expected(self) -> dict[str, np.ndarray]:
        model = self.model()
        if self.by_reference:
            results = ReferenceEvaluator(model.proto).run(None, self.feeds())
            names = [output.name for output in model.proto.graph.output]
            return dict(zip(names, map(np.asarray, results), strict=True))
        session = open_session(model.proto.SerializeToString(), optimise=False)
        return run_session(session, self.feeds())


def case(op: str, *operands: Any, **options: Any) -> Case:
    """A case whose options are fields of `Case` or else attributes of the node."""
    known = {name for name in Case.__dataclass_fields__ if name not in ("op", "operands")}
    fields = {name: value for name, value in options.items() if name in known}
    attributes = {name: value for name, value in options.items() if name not in known}
    fields["attributes"] = attributes | dict(fields.get("attributes", {}))
    return Case(op, operands, **fields)


def noise(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def positive(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 2.0, shape).astype(np.float32)


def whole(*shape: int, low: int = -9, high: int = 9, seed: int = 2, dtype: Any = np.int64) -> Any:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def truth(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(bool)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)
