"""Real networks, quantised by the runtime's own static quantiser, stay quantised when cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import independent_twin
import onnx
import pytest
from onnx import TensorProto

from onnx_scsp.config import PruneConfig, VerifyConfig
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.load import load
from onnx_scsp.pipeline import PruneResult, apply_plan, make_plan, prune

quantization = pytest.importorskip(
    "onnxruntime.quantization", reason="the installed onnxruntime has no quantiser"
)

MODELS = Path(__file__).parents[2] / "models"
INTEGERS = (TensorProto.INT8, TensorProto.UINT8)
FORMS = [(form, vector) for form in ("QDQ", "QOperator") for vector in (True, False)]


class Samples(quantization.CalibrationDataReader):
    """Random inputs to calibrate on."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path))
        self.left = [independent_twin.random_inputs(model, seed) for seed in range(2)]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantised(name: str, form: str, vector: bool, folder: Path, unsigned: bool = False) -> Path:
    source, target = MODELS / f"{name}.onnx", folder / "quantised.onnx"
    kind = quantization.QuantType.QUInt8 if unsigned else quantization.QuantType.QInt8
    quantization.quantize_static(
        source,
        target,
        Samples(source),
        quant_format=quantization.QuantFormat[form],
        per_channel=vector,
        weight_type=kind,
        activation_type=kind,
    )
    return target


def halve(source: Path, folder: Path, target: str) -> PruneResult:
    config = PruneConfig(target=target, value=0.5, synthetic=False)
    plan, one = folder / "plan.json", VerifyConfig(threads=1)
    return prune(source, folder / "out.onnx", config, plan_out=plan, verify_config=one)


def weights(path: Path) -> dict[str, int]:
    """Integer tensors of at least two axes -> number of entries."""
    graph = onnx.load(str(path)).graph
    return {
        t.name: len(onnx.numpy_helper.to_array(t).reshape(-1))
        for t in graph.initializer
        if t.data_type in INTEGERS and len(t.dims) > 1
    }


@pytest.mark.parametrize("target", ["ratio", "macs"])
@pytest.mark.parametrize(("form", "vector"), FORMS)
@pytest.mark.parametrize("name", ["digits_bn", "digits_folded"])
def test_half_goes_verified_and_weights_stay_integers(
    name: str, form: str, vector: bool, target: str, tmp_path: Path
) -> None:
    source = quantised(name, form, vector, tmp_path)
    result = halve(source, tmp_path, target)
    assert result.report
    assert result.after.macs / result.before.macs <= (0.30 if target == "ratio" else 0.5)
    before, after = weights(source), weights(tmp_path / "out.onnx")
    assert set(before) == set(after)
    assert sum(after.values()) < 0.7 * sum(before.values())
    files = (source, tmp_path / "out.onnx")
    kinds = [[node.op_type for node in onnx.load(str(path)).graph.node] for path in files]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("vector", [False, True])
def test_integer_kernels_equal_the_independent_twin_with_zero_points(
    vector: bool, unsigned: bool, tmp_path: Path
) -> None:
    source = quantised("digits_folded", "QOperator", vector, tmp_path, unsigned)
    halve(source, tmp_path, "ratio")
    twin = independent_twin.compare(source, tmp_path / "out.onnx", tmp_path / "plan.json")
    assert twin.removed > 0
    assert twin.error <= 1e-6


def test_nothing_is_merged_into_a_quantised_reader(tmp_path: Path) -> None:
    model = load(quantised("digits_folded", "QDQ", True, tmp_path))
    plan = make_plan(model, PruneConfig(target="ratio", value=0.5))
    assert not any(cut.absorbed_by for cut in plan.cuts)
    cut = plan.cuts[0]
    removed = min(set(range(cut.n_units)) - set(cut.keep))
    edited = replace(cut, absorbed_by={removed: cut.keep[0]}, scales={removed: 1.0})
    with pytest.raises(PlanError, match="is quantised"):
        apply_plan(model, replace(plan, cuts=(edited, *plan.cuts[1:])))
