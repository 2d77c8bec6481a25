"""A search whose answers are known: the metric is the model's own size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import onnx_scsp
from onnx_scsp.calibration import CalibrationData, open_calibration
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.evaluate import Predictor
from onnx_scsp.tolerance import Tolerance, WithinTolerance, prune_within

MODEL = Path(__file__).resolve().parents[2] / "models" / "digits_bn.onnx"
FOLDED = MODEL.with_name("digits_folded.onnx")
BARE = PruneConfig(synthetic=False)
Found = WithinTolerance


class Sized:
    """A metric that is the model's own size: a drop of d allows exactly the share 1 - d."""

    def __init__(self, target: str = "macs") -> None:
        self.target = target
        self.calls = 0
        self.fail_at = 0
        self.whole = self._size(MODEL)

    def _size(self, path: Path) -> int:
        coupling = find_coupling(onnx_scsp.load(path))
        return coupling.macs if self.target == "macs" else coupling.map.params

    def __call__(self, model: Predictor) -> float:
        self.calls += 1
        if self.calls == self.fail_at:
            raise ValueError("planted")
        assert model.path is not None
        return self._size(model.path) / self.whole


def search(
    folder: Path, metric: Callable[..., Any] | str, drop: float, config: PruneConfig = BARE,
    state: str | None = None, **options: Any,
) -> Found:  # fmt: skip
    return prune_within(
        MODEL,
        folder / "out.onnx",
        Tolerance(max_drop=drop, metric=metric, **options),
        config,
        state=None if state is None else folder / state,
    )


def digits(count: int) -> CalibrationData:
    images = (load_digits().images[:count, None] / 16).astype(np.float32)
    return open_calibration(images, onnx_scsp.load(MODEL))
