"""Every tiny network: a cut passes the package's oracles and an independently written one."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import independent_twin
import onnx
import pytest
from nets import NETS

from onnx_scsp.config import PruneConfig
from onnx_scsp.pipeline import PruneResult, prune


@dataclass(frozen=True)
class Run:
    """One pruning run and its files."""

    source: Path
    output: Path
    plan: Path
    result: PruneResult


def run_prune(name: str, folder: Path, **options: object) -> Run:
    source, output, plan = folder / "in.onnx", folder / "out.onnx", folder / "plan.json"
    onnx.save(NETS[name](), str(source))
    config = PruneConfig(target="ratio", value=0.5, synthetic=False, **options)
    return Run(source, output, plan, prune(source, output, config, plan_out=plan))


@pytest.mark.parametrize("name", sorted(NETS))
def test_a_selection_is_verified_and_equals_the_independent_twin(name: str, tmp_path: Path) -> None:
    run = run_prune(name, tmp_path, align=1, compensate="none")
    assert run.result.report.checks
    assert not run.result.report.failed
    twin = independent_twin.compare(run.source, run.output, run.plan)
    assert twin.removed > 0
    assert twin.error <= 1e-4


@pytest.mark.parametrize("name", sorted(NETS))
def test_merging_passes_verification_and_removes_channels(name: str, tmp_path: Path) -> None:
    run = run_prune(name, tmp_path, align=1)
    assert not run.result.report.failed
    assert any(before > after for before, after in run.result.layers.values())


@pytest.mark.parametrize("name", sorted(NETS))
def test_aligned_widths_are_multiples_of_four_and_verified(name: str, tmp_path: Path) -> None:
    run = run_prune(name, tmp_path, align=4, compensate="none")
    assert not run.result.report.failed
    cut = [after for before, after in run.result.layers.values() if after < before]
    assert all(after % 4 == 0 for after in cut)


@pytest.mark.parametrize("name", sorted(NETS))
def test_the_result_needs_fewer_macs(name: str, tmp_path: Path) -> None:
    run = run_prune(name, tmp_path, align=1, compensate="none")
    assert run.result.after.macs < run.result.before.macs


def test_the_independent_twin_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(independent_twin.__file__).read_text())
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert imported <= {
        "__future__",
        "dataclasses",
        "json",
        "numpy",
        "onnx",
        "onnxruntime",
        "pathlib",
        "typing",
    }
