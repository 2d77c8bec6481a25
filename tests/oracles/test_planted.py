"""Planted structure: where half of the filters are dead, or copies, the right half goes.

The planting goes by the networks' weights alone, not by the package's groups.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from independent_twin import random_inputs, run, worst_difference
from nets import NETS
from onnx import numpy_helper

from onnx_scsp.config import PruneConfig
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.types import Role

DIGITS = Path(__file__).parents[2] / "models"
METHODS = ["scsp", "one-per-cluster", "l2"]
CLUSTERING = ["scsp", "one-per-cluster"]
PLANTABLE = [
    "plain_bn",
    "plain_folded",
    "residual_identity",
    "residual_projection",
    "depthwise_separable",
    "grouped",
    "concat_branches",
    "squeezed_by_if",
    "digits_bn",
    "digits_folded",
]


def network(name: str) -> onnx.ModelProto:
    if name.startswith("digits"):
        return onnx.load(str(DIGITS / f"{name}.onnx"))
    return NETS[name]()


def tensors(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def with_tensors(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A copy with new initializers; inner shapes are dropped."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        array = np.ascontiguousarray(arrays[tensor.name])
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    del copy.graph.value_info[:]
    return copy


def hidden_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every Conv and its BatchNormalization; the heads of these networks are Gemm."""
    return [node for node in model.graph.node if node.op_type in ("Conv", "BatchNormalization")]


# ---- dead filters -------------------------------------------------------------------------------


def kill_odd_filters(model: onnx.ModelProto) -> onnx.ModelProto:
    arrays = tensors(model)
    for node in hidden_layers(model):
        # Conv: weight, bias; BatchNormalization: scale, shift (not mean and variance)
        for name in list(node.input[1:3]):
            arrays[name] = arrays[name].copy()
            arrays[name][1::2] = 0.0
    return with_tensors(model, arrays)


def prune_half(model: onnx.ModelProto, folder: Path, method: str, compensate: str) -> PruneResult:
    onnx.save(model, str(folder / "in.onnx"))
    config = PruneConfig(target="ratio", value=0.5, align=1, method=method, compensate=compensate)
    return prune(folder / "in.onnx", folder / "out.onnx", config)


def change(model: onnx.ModelProto, result: PruneResult) -> float:
    feeds = random_inputs(model, 3)
    return worst_difference(run(model, feeds), run(onnx.load(str(result.output)), feeds))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PLANTABLE)
def test_exactly_the_dead_filters_go_and_outputs_stay(
    name: str, method: str, tmp_path: Path
) -> None:
    model = kill_odd_filters(network(name))
    result = prune_half(model, tmp_path, method, "none")
    shapes = {name: array.shape for name, array in tensors(model).items()}
    removed = removed_entries(result, Role.MAKES)
    hidden = {node.input[1] for node in hidden_layers(model) if node.op_type == "Conv"}
    assert removed
    for tensor, entries in removed.items():
        assert tensor in hidden
        assert entries == set(range(1, shapes[tensor][0], 2))
    assert change(model, result) < 1e-5


def removed_entries(result: PruneResult, role: Role) -> dict[str, set[int]]:
    """Tensor -> entries of its member axis that the plan removes, over all groups."""
    keep = {cut.group: set(cut.keep) for cut in result.plan.cuts}
    removed: dict[str, set[int]] = {}
    for group in result.plan.groups:
        for member in group.members:
            if member.role is role:
                gone = [
                    place
                    for place, unit in enumerate(member.units.tolist())
                    if unit >= 0 and unit not in keep[group.id]
                ]
                removed.setdefault(member.tensor, set()).update(gone)
    return removed


def test_a_network_without_dead_filters_changes_when_it_is_cut(tmp_path: Path) -> None:
    model = network("plain_bn")
    assert change(model, prune_half(model, tmp_path, "l2", "none")) > 1e-2


# ---- copied filters -----------------------------------------------------------------------------


def duplicate_filters(model: onnx.ModelProto) -> onnx.ModelProto:
    """Twice the width, the same function: filters repeated, readers shared out among the copies."""
    arrays = tensors(model)
    rng = np.random.default_rng(0)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    image = copy.graph.input[0].name
    for node in copy.graph.node:
        if node.op_type == "Conv":
            _widen_conv(node, arrays, rng, reads_image=node.input[0] == image)
        elif node.op_type == "BatchNormalization":
            for name in node.input[1:]:
                arrays[name] = np.repeat(arrays[name], 2, axis=0)
        elif node.op_type == "Gemm":  # transB=1
            arrays[node.input[1]] = shared_out(arrays[node.input[1]], rng)
    return with_tensors(copy, arrays)


def _widen_conv(
    node: onnx.NodeProto, arrays: dict[str, np.ndarray], rng: np.random.Generator, reads_image: bool
) -> None:
    weight = arrays[node.input[1]]
    group = next((a for a in node.attribute if a.name == "group"), None)
    is_depthwise = group is not None and group.i > 1 and weight.shape[1] == 1
    if is_depthwise:
        group.i *= 2
    elif not reads_image:
        weight = shared_out(weight, rng)
    arrays[node.input[1]] = np.repeat(weight, 2, axis=0)
    for name in node.input[2:]:
        arrays[name] = np.repeat(arrays[name], 2, axis=0)


def shared_out(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Axis 1 twice as long: every slice w becomes a w and (1 - a) w."""
    shape = [1, weight.shape[1], *[1] * (weight.ndim - 2)]
    share = rng.uniform(0.2, 0.8, shape)
    pair = np.stack([weight * share, weight * (1.0 - share)], axis=2)
    return pair.reshape(weight.shape[0], -1, *weight.shape[2:]).astype(weight.dtype)


@pytest.mark.parametrize("name", PLANTABLE)
def test_the_planted_copies_do_not_change_the_network(name: str) -> None:
    model = network(name)
    feeds = random_inputs(model, 3)
    assert worst_difference(run(model, feeds), run(duplicate_filters(model), feeds)) < 1e-5


@pytest.mark.parametrize("method", CLUSTERING)
@pytest.mark.parametrize("name", PLANTABLE)
def test_merging_copied_filters_is_exact(name: str, method: str, tmp_path: Path) -> None:
    model = duplicate_filters(network(name))
    result = prune_half(model, tmp_path, method, "merge")
    narrow = {tensor: array.shape for tensor, array in tensors(network(name)).items()}
    after = {t: a.shape for t, a in tensors(onnx.load(str(result.output))).items()}
    assert after == narrow
    assert change(model, result) < 1e-5


@pytest.mark.parametrize("method", CLUSTERING)
def test_dropping_copies_without_merging_is_not_exact(method: str, tmp_path: Path) -> None:
    model = duplicate_filters(network("plain_bn"))
    assert change(model, prune_half(model, tmp_path, method, "none")) > 1e-2
