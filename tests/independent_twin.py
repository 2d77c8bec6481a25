"""The masked-twin oracle, written from the plan file's contract alone.

Nothing of the package under test is imported. The plan says which entries of which tensor axis
belong to which unit; here the slices that read removed units are set to zero in the original, and
the result has to compute what the pruned file computes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class TwinResult:
    """Largest difference over the largest output, and how many units were masked."""

    error: float
    removed: int


def compare(original: Path, pruned: Path, plan: Path, seed: int = 5) -> TwinResult:
    """Runs the masked original and the pruned model on the same random inputs."""
    document = json.loads(Path(plan).read_text())
    twin = onnx.load(str(original))
    removed = mask(twin, document)
    feeds = random_inputs(twin, seed)
    expected = run(twin, feeds)
    actual = run(onnx.load(str(pruned)), feeds)
    return TwinResult(worst_difference(expected, actual), removed)


def mask(model: onnx.ModelProto, document: dict[str, Any]) -> int:
    """Zeroes in place what reads removed units; returns how many units are removed."""
    removed = 0
    made_by = [node.output[0] for node in model.graph.node]  # places count nodes as in the file
    for group in document["groups"]:
        if group["absorbed_by"]:
            raise ValueError("this twin is for plans that select only")
        gone = set(range(group["units"])) - set(group["keep"])
        removed += len(gone)
        for member in group["members"]:
            if member["role"] != "reads" or not gone:
                continue
            if "across" in member:
                mask_parts(model, member, gone)
                continue
            entries = np.flatnonzero(np.isin(member["units"], sorted(gone)))
            for use in member.get("uses", ()):
                mask_use(model, use, len(member["units"]), entries)
            if not member.get("uses"):
                array = stored(model, member["tensor"])
                zero = zero_point(model, member["tensor"], array.ndim)
                masked = zeroed(array, member["axis"], entries, zero)
                store(model, member["tensor"], masked)
        for member in group["members"]:
            if member["role"] == "scales" and gone:
                stays = ~np.isin(member["units"], sorted(gone))
                restrict_norms(model, member["tensor"], stays)
    hide_all(model, made_by, document)
    return removed


def hide_all(model: onnx.ModelProto, made_by: list[str], document: dict[str, Any]) -> None:
    """What nodes run over without a weight; one place may see channels of several groups."""
    hidden: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
    for group in document["groups"]:
        gone = set(range(group["units"])) - set(group["keep"])
        for reduction in group.get("reductions", ()):
            entries = np.isin(reduction["units"], sorted(gone))
            before = hidden.get(reduction["use"], (reduction, np.zeros_like(entries)))[1]
            hidden[reduction["use"]] = (reduction, entries | before)
    for reduction, entries in hidden.values():
        hide(model, made_by, reduction, entries)


def hide(
    model: onnx.ModelProto, made_by: list[str], reduction: dict[str, Any], gone: np.ndarray
) -> None:
    """Multiplies what one node runs over with zeros and ones."""
    if not gone.any():
        return
    number, place = (int(part) for part in reduction["use"].split(":"))
    out = made_by[number]
    at = next(i for i, node in enumerate(model.graph.node) if out in node.output)
    node = model.graph.node[at]
    if reduction.get("restricted", False):
        compress(model, at, place, reduction["axis"], ~gone)
        return
    rank = len(shape_of(model, reduction["value"]))
    factor = (~gone).astype(dtype_of(model)).reshape(-1, *(1,) * (rank - reduction["axis"] - 1))
    name, masked = f"{out}_{place}_{at}_factor", f"{out}_{place}_{at}_hidden"
    model.graph.initializer.append(numpy_helper.from_array(factor, name))
    multiply = helper.make_node("Mul", [node.input[place], name], [masked])
    node.input[place] = masked
    model.graph.node.insert(at, multiply)


def compress(model: onnx.ModelProto, at: int, place: int, axis: int, stays: np.ndarray) -> None:
    """Leaves out what goes; what keeps the axis gets its width back by zeros and ones.

    That is an LRN, or an average over a window of neighbours, whose outermost entries have no
    window of their own.
    """
    node = model.graph.node[at]
    out = node.output[0]
    model.graph.initializer.append(numpy_helper.from_array(stays, f"{out}_stays"))
    kept = helper.make_node("Compress", [node.input[place], f"{out}_stays"], [f"{out}_rest"])
    kept.attribute.append(helper.make_attribute("axis", axis))
    node.input[place] = kept.output[0]
    if node.op_type in ("LRN", "AveragePool"):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kernel = [1, 1, *attributes.get("kernel_shape", (1, 1))]
        pads = [0, 0, *attributes.get("pads", [0] * len(kernel))][axis :: len(kernel) - 2][:2]
        pads = pads if axis > 1 else [0, 0]
        centres = slice(kernel[axis] // 2 - pads[0], stays.size - kernel[axis] // 2 + pads[1])
        spread = np.eye(stays[centres].size, dtype=dtype_of(model))[stays[centres]]
        model.graph.initializer.append(numpy_helper.from_array(spread, f"{out}_spread"))
        node.output[0] = f"{out}_narrow"
        last = [place for place in range(len(kernel)) if place != axis] + [axis]
        perms = (last, np.argsort(last).tolist())
        back = [
            helper.make_node("Transpose", [f"{out}_narrow"], [f"{out}_rows"], perm=perms[0]),
            helper.make_node("MatMul", [f"{out}_rows", f"{out}_spread"], [f"{out}_wide"]),
            helper.make_node("Transpose", [f"{out}_wide"], [out], perm=perms[1]),
        ]
        for step, made in enumerate(back):
            model.graph.node.insert(at + 1 + step, made)
    model.graph.node.insert(at, kept)


def shape_of(model: onnx.ModelProto, name: str) -> tuple[int, ...]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.ValueInfoProto(name=name))
    return open_session(probe).run([name], random_inputs(probe, 0))[0].shape


def dtype_of(model: onnx.ModelProto) -> np.dtype[Any]:
    """Of real numbers in this model: that of its first input."""
    return next(iter(random_inputs(model, 0).values())).dtype


def restrict_norms(model: onnx.ModelProto, scale: str, stays: np.ndarray) -> None:
    """Writes out each LayerNormalization with this scale, its sums over what stays."""
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    if all(node.input[1] != scale for node in norms):
        return  # copying the nodes takes as much memory again each time
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "LayerNormalization" or node.input[1] != scale:
            nodes.append(node)
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        out = node.output[0]
        constants = {
            "mask": stays.astype(np.float32),
            "share": np.float32(1.0 / stays.sum()),
            "epsilon": np.float32(attributes.get("epsilon", 1e-5)),
            "last": np.array([-1]),
        }
        for key, array in constants.items():
            tensor = numpy_helper.from_array(np.asarray(array), f"{out}_{key}")
            model.graph.initializer.append(tensor)

        def op(op_type: str, *inputs: str, out: str = out) -> str:
            names = [f"{out}{name}" if name.startswith("_") else name for name in inputs]
            nodes.append(helper.make_node(op_type, names, [f"{out}_t{len(nodes)}"]))
            return str(nodes[-1].output[0])

        def mean(x: str) -> str:
            return op("Mul", op("ReduceSum", op("Mul", x, "_mask"), "_last"), "_share")

        centred = op("Sub", node.input[0], mean(node.input[0]))
        spread = op("Sqrt", op("Add", mean(op("Mul", centred, centred)), "_epsilon"))
        result = op("Mul", op("Div", centred, spread), node.input[1])
        if len(node.input) > 2:
            result = op("Add", result, node.input[2])
        nodes[-1].output[0] = out
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


ZERO_POINTS = {
    ("DequantizeLinear", 0): 2,
    ("QLinearConv", 3): 5,
    ("ConvInteger", 1): 3,
    ("QLinearMatMul", 0): 2,
    ("QLinearMatMul", 3): 5,
    ("MatMulInteger", 0): 2,
    ("MatMulInteger", 1): 3,
    ("QGemm", 3): 5,
}
"""(Operator, place of its integer weight) -> place of the zero point."""


def zero_point(model: onnx.ModelProto, name: str, rank: int) -> np.ndarray:
    """The integer that stands for zero in a weight, in a shape that broadcasts against it."""
    for node in model.graph.node:
        for place, value in enumerate(node.input):
            where = ZERO_POINTS.get((node.op_type, place))
            if value != name or where is None or len(node.input) <= where or not node.input[where]:
                continue
            zero = stored(model, node.input[where])
            if zero.size == 1:
                return zero.reshape(())
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            axis = {"DequantizeLinear": attributes.get("axis", 1), "QLinearConv": 0}
            axis |= {"ConvInteger": 0, "QGemm": 0 if attributes.get("transB", 0) else 1}
            view = [1] * rank
            view[axis.get(node.op_type, -2 if place == 0 else -1)] = zero.size
            return zero.reshape(view)
    return np.zeros(())


def mask_parts(model: onnx.ModelProto, member: dict[str, Any], gone: set[int]) -> None:
    """Zeroes other entries in each of the equal parts of axis `across`."""
    assert not member.get("uses")
    rows = member["units"]
    array = stored(model, member["tensor"])
    zero = np.broadcast_to(zero_point(model, member["tensor"], array.ndim), array.shape)
    split = [np.split(whole, len(rows), axis=member["across"]) for whole in (array, zero)]
    parts = [
        zeroed(part, member["axis"], np.flatnonzero(np.isin(row, sorted(gone))), blank)
        for part, blank, row in zip(*split, rows, strict=True)
    ]
    store(model, member["tensor"], np.concatenate(parts, axis=member["across"]))


def mask_use(model: onnx.ModelProto, use: str, length: int, entries: np.ndarray) -> None:
    """Gives one use of a shared vector its own, masked copy."""
    node, place = (int(part) for part in use.split(":"))
    array = stored(model, model.graph.node[node].input[place])
    (axis,) = (axis for axis, size in enumerate(array.shape) if size == length)
    name = f"masked_{node}_{place}"
    array = zeroed(array, axis, entries)
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node[node].input[place] = name


def zeroed(
    array: np.ndarray, axis: int, entries: np.ndarray, zero: np.ndarray | int = 0
) -> np.ndarray:
    copy = array.copy()
    index = [slice(None)] * copy.ndim
    index[axis] = entries
    copy[tuple(index)] = np.broadcast_to(zero, copy.shape)[tuple(index)]
    return copy


def stored(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A tensor's values: an initializer, or whatever the nodes before it compute."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and name in node.output and node.attribute[0].name == "value":
            return numpy_helper.to_array(node.attribute[0].t)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.ValueInfoProto(name=name))
    return open_session(probe).run([name], random_inputs(probe, 0))[0]


def store(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Puts new values under a tensor's name, in place of whatever made them."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array, name))
            return
    for node in model.graph.node:
        if name in node.output:
            constant = helper.make_node(
                "Constant", [], [name], value=numpy_helper.from_array(array), name=node.name
            )
            node.CopyFrom(constant)
            return
    raise ValueError(f"no tensor named '{name}'")


def _open_size(axis: int, given: list[int]) -> int:
    if axis == 0:
        return 2
    # channels first with every axis open, else a picture's side
    return 3 if axis == 1 and len(given) == 4 and max(given[2:]) <= 0 else 64


def random_inputs(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    """Standard normal inputs; batch 2 and 64 pixels where the file leaves an axis open."""
    rng = np.random.default_rng(seed)
    initializers = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in initializers:
            continue
        kind = value.type.tensor_type
        given = [dim.dim_value for dim in kind.shape.dim]
        shape = [size if size > 0 else _open_size(axis, given) for axis, size in enumerate(given)]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = np.asarray(rng.standard_normal(shape)).astype(dtype)
    return feeds


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs, and what goes into a Softmax or Sigmoid that is an output."""
    names = [output.name for output in model.graph.output]
    inner = [
        node.input[0]
        for node in model.graph.node
        if node.op_type in ("Softmax", "Sigmoid") and set(node.output) & set(names)
    ]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in names)
    wanted = [*names, *(name for name in inner if name not in names)]
    return dict(zip(wanted, open_session(probe).run(wanted, feeds), strict=True))


def open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def worst_difference(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> float:
    """Over all outputs: the largest absolute difference over the largest absolute value."""
    worst = 0.0
    for name, left in expected.items():
        right = actual[name]
        if left.shape != right.shape or not (np.isfinite(left).all() and np.isfinite(right).all()):
            return float("inf")
        scale = max(float(np.abs(left).max(initial=0.0)), 1e-30)
        gap = np.abs(left.astype(np.float64) - right.astype(np.float64))
        worst = max(worst, float(gap.max(initial=0.0)) / scale)
    return worst
