"""onnxsim 0.8: structured pruning of the simplified file, brought to equal MACs.

Four ways: filters by L2 norm, the same share in every layer or ranked over all layers; by Wanda's
score on calibration inputs; and that followed by its ridge refit (`apply_pruning_finetune`), which
refits MatMul and Gemm layers only.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.accuracy.catalog import Method, Task
from tools.accuracy.ours import macs
from tools.accuracy.search import bisect

SAMPLES, BATCH = 256, 64


def prune(task: Task, method: Method, budget: float, calib: Path, output: Path) -> dict[str, Any]:
    """Simplifies and prunes the file to the budget.

    Args:
        task: The network.
        method: Which of the four ways, in its arguments.
        budget: Share of the MACs that may remain.
        calib: Calibration inputs.
        output: Where the result goes.

    Returns:
        The setting that was found.
    """
    onnxsim = importlib.import_module("onnxsim")
    dense, fine = onnxsim.simplify(task.model)
    if not fine:
        raise ValueError("onnxsim's simplification changes the outputs")
    batches = _batches(calib, task) if method.data == "inputs" else None
    whole = macs(Path(task.model), task)

    def cut(share: float) -> onnx.ModelProto:
        if batches is None:
            return onnxsim.apply_structured_pruning(
                dense, sparsity=share, global_sparsity="global" in method.arguments
            )
        return onnxsim.apply_structured_wanda_pruning(dense, batches, sparsity=share)

    def left(share: float) -> float:
        onnx.save(cut(share), str(output))
        return macs(output, task) / whole

    share = bisect(left, budget)
    pruned = cut(share)
    if "finetune" in method.arguments:
        pruned = onnxsim.apply_pruning_finetune(dense, pruned, batches)
    onnx.save(pruned, str(output))
    return {"setting": share}


def _batches(calib: Path, task: Task) -> list[dict[str, Any]]:
    with np.load(calib) as kept:
        images = kept[task.input][:SAMPLES]
    return [{task.input: images[at : at + BATCH]} for at in range(0, len(images), BATCH)]
