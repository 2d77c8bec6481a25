"""Dependencies point downwards only, and heavy packages have one door each."""

from __future__ import annotations

from pathlib import Path

import pytest

from arch.imports import FREE, MAY_IMPORT, PACKAGE, imported, layer_of, violations

FILES = sorted(file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py"))


def test_every_import_is_allowed() -> None:
    assert violations(PACKAGE) == []


def test_every_module_belongs_to_a_known_layer() -> None:
    known = {"", *FREE, *MAY_IMPORT}
    assert {layer_of(path) for path in FILES} <= known


def test_no_two_layers_may_import_each_other() -> None:
    below: dict[str, set[str]] = {layer: set(found) for layer, found in MAY_IMPORT.items()}
    for _ in below:
        for found in below.values():
            found |= {deep for layer in set(found) for deep in below.get(layer, ())}
    assert [layer for layer, found in below.items() if layer in found] == []


def test_the_checker_sees_the_package() -> None:
    assert len(FILES) > 40
    assert "onnx_scsp.graph.model.Model" in imported(
        (PACKAGE / "graph" / "save.py").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("graph/load.py", "from onnx_scsp.ops import RULES", "graph imports ops"),
        ("surgery/cut.py", "from onnx_scsp.partition import cosine", "surgery imports partition"),
        ("surgery/cut.py", "from onnx_scsp.plan import Choices", "surgery imports plan"),
        ("couple/walk.py", "import onnx_scsp.plan.cost", "couple imports plan"),
        ("describe/tables.py", "import onnx", "imports onnx"),
        ("partition/spectral.py", "from onnx import helper", "imports onnx"),
        ("describe/tables.py", "from onnx_scsp.graph.model import Model", "describe imports graph"),
        ("plan/cost.py", "import onnxruntime as ort", "imports onnxruntime"),
        ("graph/load.py", "from onnxruntime import InferenceSession", "imports onnxruntime"),
        ("pipeline.py", "import torch", "imports torch"),
        ("pipeline.py", "from torch import nn", "imports torch"),
        ("pipeline.py", "from onnx_scsp.cli import app", "pipeline imports cli"),
        ("pipeline.py", "from onnx_scsp.report.page import page", "pipeline imports report"),
        ("types.py", "from onnx_scsp.graph.model import Model", "types imports graph"),
        ("proof/suite.py", "from onnx_scsp.surgery.cut import kept_units", "proof imports"),
        ("proof/suite.py", "from ..surgery import operate", "relative import"),
        ("plan/cost.py", "def f():\n    from onnx_scsp.cli import app", "plan imports cli"),
        ("plan/cost.py", "if True:\n    import onnx_scsp.report", "plan imports report"),
        ("newcomer/x.py", "from onnx_scsp.graph.model import Model", "newcomer imports graph"),
    ],
)
def test_the_checker_notices_a_planted_violation(
    path: str, source: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(source, encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("graph/session.py", "import onnxruntime as ort"),
        ("measure/machine.py", "import onnxruntime as ort"),
        ("plan/planner.py", "from onnx_scsp.couple import Coupling"),
        ("surgery/cut.py", "from onnx_scsp.types import PrunePlan"),
        ("graph/load.py", "import onnx\nfrom onnx_scsp.graph.model import Model"),
        ("retrain/train.py", "import torch"),
    ],
)
def test_the_checker_lets_allowed_imports_pass(path: str, source: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(source, encoding="utf-8")
    assert violations(tmp_path) == []
