"""Whether a network's output depends on its input at all: else no oracle can see anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

SEES = 1e-5  # relative change of the output, between two random inputs, below which it is blind


def run(path: Path, seed: int = 0) -> list[Any]:
    """Outputs of a file for a random input; dynamic axes get size 1, or 64 from the third on.

    Args:
        path: The file.
        seed: Seed of the input.

    Returns:
        The outputs.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    feeds = {}
    for wanted in session.get_inputs():
        shape = [
            size if isinstance(size, int) else 64 if axis > 1 else 1
            for axis, size in enumerate(wanted.shape)
        ]
        feeds[wanted.name] = random.standard_normal(shape).astype(np.float32)
    found: list[Any] = session.run(None, feeds)
    return found


def probe(path: Path) -> dict[str, Any]:
    """How far the outputs move from one random input to another.

    Args:
        path: The file.

    Returns:
        `moves`: largest change relative to the largest output; `blind`: whether it is next to none.
    """
    moves = 0.0
    for a, b in zip(run(path, 0), run(path, 1), strict=True):
        if a.shape == b.shape and a.size and a.dtype.kind == "f":
            size = max(float(np.abs(a).max()), 1e-30)
            moves = max(moves, float(np.abs(a - b).max()) / size)
    return {"outcome": "ok", "moves": moves, "blind": not moves > SEES}
