"""The public names, and what importing the package costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import onnx_scsp

HEAVY = ("numpy", "onnx", "onnxruntime", "scipy", "sklearn", "torch", "typer", "rich")
PUBLIC = {
    "RULES", "Choices", "OpRule", "PruneConfig", "PruneResult", "PrunedModel", "ScspError",
    "VerifyConfig", "apply_plan", "benchmark", "find_groups", "load", "make_plan",
    "plan_from_json", "plan_to_json", "prune", "read_plan", "rule_table", "save", "verify",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Heavy packages that are loaded after a statement has run in a fresh interpreter."""
    report = f"import json, sys; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    command = [sys.executable, "-c", f"{statement}\n{report}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(found.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import onnx_scsp") == set()


def test_the_check_for_heavy_imports_can_fail() -> None:
    assert {"onnx", "numpy"} <= loaded_by("import onnx_scsp; onnx_scsp.load")


def test_naming_an_error_loads_nothing_heavy() -> None:
    assert loaded_by("import onnx_scsp; onnx_scsp.ScspError") == set()


def test_building_a_configuration_loads_nothing_heavy() -> None:
    assert loaded_by("import onnx_scsp; onnx_scsp.PruneConfig()") == set()


def test_planning_loads_no_torch() -> None:
    assert "torch" not in loaded_by("import onnx_scsp; onnx_scsp.prune")


def test_the_public_names_are_these() -> None:
    assert set(onnx_scsp.__all__) >= PUBLIC
    assert len(set(onnx_scsp.__all__)) == len(onnx_scsp.__all__)


@pytest.mark.parametrize("name", onnx_scsp.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(onnx_scsp, name) is not None


@pytest.mark.parametrize("name", onnx_scsp.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(onnx_scsp, name)
    assert name == "RULES" or (value.__doc__ or "").strip()


def test_dir_lists_the_public_names() -> None:
    assert set(onnx_scsp.__all__) <= set(dir(onnx_scsp))


def test_the_lazy_table_and_the_public_list_agree() -> None:
    assert set(onnx_scsp._HOMES) == set(onnx_scsp.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = onnx_scsp.absent


def test_a_version_is_stated() -> None:
    assert onnx_scsp.__version__.count(".") == 2
