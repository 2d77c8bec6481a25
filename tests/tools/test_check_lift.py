"""The page of lifted networks: what is said of a file is what was seen of it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from net_builder import image  # noqa: E402

from tools.check_lift import Row, examine, page, read_records  # noqa: E402


def test_an_embedded_model_is_ok() -> None:
    row = examine(ROOT / "models" / "digits_bn.onnx", bake=False)
    assert (row.status, row.same) == ("ok", True)
    assert row.parameters[0] == row.parameters[1] > 0
    assert max(row.one, row.three) < 1e-5


def test_a_missing_operator_is_named(tmp_path: Path) -> None:
    n, x = image()
    onnx.save(n.build(n.op("Det", x), output_shape=["N", 3]), tmp_path / "det.onnx")
    assert examine(tmp_path / "det.onnx", bake=False).status == "lacks Det"


def test_a_wrong_function_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "batch_norm", lambda x, *_: x * 1.001)
    assert examine(ROOT / "models" / "digits_bn.onnx", bake=False).status == "differs"


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [Row("a", "ok", 1e-6, 2e-6, parameters=(3, 3)), Row("b", "lacks Det")]
    lines = [json.dumps(asdict(row)) for row in rows]
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [str(row) for row in read_records(tmp_path / "r.jsonl").values()] == [*map(str, rows)]


def test_the_page_counts_verdicts() -> None:
    rows = [Row("a", "ok"), Row("b", "differs"), Row("c", "lacks Det"), Row("d", "rounding")]
    text = page(rows)
    assert "4 files, 3 lifted, 1 lack an operator" in text
    assert "- 1 compute what onnxruntime does" in text
    assert "1 differ by more" in text
    assert all(f"| {row.name} |" in text for row in rows)
