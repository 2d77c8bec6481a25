"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder: what this machine has measured before decides no test."""
    folder = tmp_path_factory.getbasetemp() / "no_cache"
    monkeypatch.setenv("ONNX_SCSP_CACHE", str(folder))
    return folder
