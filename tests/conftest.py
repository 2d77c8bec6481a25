"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_scsp.measure.compare import Comparison


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder: what this machine has measured before decides no test."""
    folder = tmp_path_factory.getbasetemp() / "no_cache"
    monkeypatch.setenv("ONNX_SCSP_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def quick_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every result is as fast as the gate wishes: no test here is about real timings."""
    faster = Comparison(0.5, 0.49, 0.51, 0.02, 2.0, 1.0)
    for home in ("onnx_scsp.measure.compare", "onnx_scsp.speed.gated"):
        monkeypatch.setattr(f"{home}.comparer", lambda **_: lambda _a, _b: faster)
