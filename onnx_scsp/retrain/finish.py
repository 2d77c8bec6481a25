"""The end of a run: weights back into the graph, folded, proved, written.

What is proved of the result F, beside the checker, the interface, two batch sizes and the MACs:

    weights only   the trained graph is the cut graph (which passed every oracle when it was cut)
                   but for the values of floating-point constants
    folded         F computes what the trained graph computes, where restored
                   BatchNormalizations are folded back
    PyTorch        F in onnxruntime computes what the trained network computes in PyTorch
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from onnx_scsp.config import VerifyConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import VerifyError
from onnx_scsp.evaluate import Predictor
from onnx_scsp.figures import Clock, achieved, input_bytes, layer_widths
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import save as save_proto
from onnx_scsp.graph.save import write_text
from onnx_scsp.graph.view import view
from onnx_scsp.inputs import model_inputs
from onnx_scsp.ops import RULES, approximating
from onnx_scsp.pipeline import planned_macs
from onnx_scsp.plan import plan_to_json
from onnx_scsp.proof import verify_files
from onnx_scsp.proof.compare import difference
from onnx_scsp.retrain.back import torch_divergence, write_back
from onnx_scsp.retrain.checkpoint import FILE
from onnx_scsp.retrain.lift import Lifted
from onnx_scsp.retrain.result import RetrainResult
from onnx_scsp.retrain.runfolder import CUT, DENSE, EVIDENCE, PLAN, SOFT
from onnx_scsp.retrain.slots import Slotted, fold
from onnx_scsp.surgery import operate
from onnx_scsp.types import AnyArray, Check, Cost, PrunePlan, VerifyReport

DIVERGENCE = 1e-3
"""Largest difference between PyTorch and onnxruntime, relative to the largest output."""
TRAINED = "trained.onnx"
_FLOATS = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """What there is when the last epoch is over.

    Attributes:
        original: The original and its groups.
        cut: The cut network before the last epochs, proved.
        lifted: The trained network, on the CPU.
        slots: The restored BatchNormalizations, where there are any.
        plan: The plan in the words of the original.
        target: Budget.
        inputs: Some samples.
        metric: Name, the original's, the result's.
        records: Of the epochs.
    """

    original: Coupling
    cut: Model
    lifted: Lifted
    slots: Slotted | None
    plan: PrunePlan
    target: tuple[str, float]
    inputs: Mapping[str, AnyArray]
    metric: tuple[str, float | None, float | None]
    records: tuple[Mapping[str, Any], ...]


def finish(
    ending: Ending,
    out: Path,
    plan_out: str | os.PathLike[str] | None,
    folder: Path,
    checking: VerifyConfig,
    clock: Clock,
) -> RetrainResult:
    """Writes the result, after every check has passed.

    Raises:
        VerifyError: A check failed; nothing is written.
    """
    source = ending.original.model
    trained = write_back(ending.cut, ending.lifted)
    save_proto(trained.proto, ending.cut, folder / TRAINED)
    trained = load(folder / TRAINED)
    final = trained if ending.slots is None else folded(ending, ending.slots, trained)
    # the proof runs on the files: what is in memory is not yet what a user gets
    found: list[tuple[Coupling, VerifyReport, float]] = []

    def check(path: Path) -> None:
        result = load(path)
        after = find_coupling(result, input_shapes=checking.input_shapes)
        report, divergence = _proved(ending, trained, result, after, checking)
        _require(report)
        found.append((after, report, divergence))

    size_bytes = save_proto(final.proto, source, out, check=check)
    clock.lap("verify and write")
    if plan_out is not None:
        write_text(plan_to_json(ending.plan), plan_out)
    _tidy(folder)
    after, report, divergence = found[0]
    before_cost = Cost(ending.original.macs, ending.original.map.params, input_bytes(source))
    after_cost = Cost(after.macs, after.map.params, size_bytes)
    name, metric_before, metric_after = ending.metric
    return RetrainResult(
        output=out,
        plan=ending.plan,
        before=before_cost,
        after=after_cost,
        target=ending.target,
        achieved=achieved(ending.target[0], before_cost, after_cost, ending.plan),
        report=report,
        metric=name,
        metric_before=metric_before,
        metric_after=metric_after,
        divergence=divergence,
        records=ending.records,
        seconds=clock.laps,
        layers=layer_widths(ending.original, after),
    )


def folded(ending: Ending, slots: Slotted, trained: Model) -> Model:
    """Folds the restored BatchNormalizations of the cut network into the cut original.

    The cut original has the weights of before; folding gives it the trained ones.
    """
    coupling, source = ending.original, ending.original.model
    wide = bool(ending.plan.config.get("approximate", False))
    proto = operate(coupling, approximating(RULES) if wide else RULES, ending.plan)
    cut = source if proto is None else replace(source, proto=proto, is_stored=False)
    places = {name: node.index for node in view(cut.proto).nodes for name in node.outputs}
    moved = tuple(replace(slot, conv=places[slot.output]) for slot in slots.slots)
    return fold(replace(slots, source=cut, slots=moved), trained)


def _proved(
    ending: Ending, trained: Model, result: Model, after: Coupling, checking: VerifyConfig
) -> tuple[VerifyReport, float]:
    macs = (planned_macs(ending.original, ending.plan), after.macs)
    report = verify_files(ending.original.model, result, None, config=checking, macs=macs)
    checks = [check_weights_only(ending.cut, trained)]
    if ending.slots is not None:
        checks.append(check_same_function(trained, result, ending.inputs, checking))
    divergence = torch_divergence(result, ending.lifted, one_run(result, ending.inputs))
    within = divergence <= DIVERGENCE
    checks.append(
        Check("PyTorch", within, divergence, DIVERGENCE, "onnxruntime beside PyTorch, relative")
    )
    return VerifyReport((*report.checks, *checks)), divergence


def one_run(model: Model, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """As many samples as the model takes in one run."""
    fixed = {item.sizes[0] for item in model_inputs(model) if item.sizes} - {0}
    count = fixed.pop() if len(fixed) == 1 else None
    return {name: array[:count] for name, array in inputs.items()}


def check_weights_only(cut: Model, trained: Model) -> Check:
    """The trained graph is the cut graph but for the values of floating-point constants."""
    first, second = _without_values(cut), _without_values(trained)
    same = first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    return Check("weights only", same, detail="the proved graph, other values")


def _without_values(model: Model) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    tensors = list(proto.graph.initializer)
    for node in proto.graph.node:
        if node.op_type == "Constant":
            tensors += [a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    for tensor in tensors:
        if tensor.data_type in _FLOATS:
            for values in ("raw_data", "float_data", "double_data", "int32_data"):
                tensor.ClearField(values)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return proto


def check_same_function(
    a: Model, b: Model, inputs: Mapping[str, AnyArray], checking: VerifyConfig
) -> Check:
    """Two files compute the same on some samples."""
    first, second = (Predictor(model, threads=checking.threads)(inputs) for model in (a, b))
    found = difference(first, second)
    within = found.shapes_agree and found.finite and found.largest <= checking.tolerance
    return Check(
        "folded",
        within,
        found.largest,
        checking.tolerance,
        "BatchNormalization folded, beside the trained graph",
    )


def _require(report: VerifyReport) -> None:
    if not report:
        failed = "; ".join(
            f"{check.name}: {check.detail}"
            + (f" ({check.value:.3g})" if check.value is not None else "")
            for check in report.failed
        )
        raise VerifyError(f"the result fails verification and was not written: {failed}")


def _tidy(folder: Path) -> None:
    """A finished run leaves its logs; the checkpoint goes first: nothing resumes halfway."""
    for name in (FILE, DENSE, SOFT, CUT, PLAN, TRAINED):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / EVIDENCE, ignore_errors=True)
