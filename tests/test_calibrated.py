"""The recipe with calibration inputs: batches, plans, repairs, whole runs over the zoo."""

from __future__ import annotations

from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from graph.small import conv_net
from nets import NETS
from onnx import numpy_helper

import onnx_scsp
from onnx_scsp.calibrated import LARGEST_BATCH, needs_repair, passes, repair, with_values
from onnx_scsp.calibration import CalibrationData, open_calibration
from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.inputs import model_inputs

HALF = PruneConfig(target="ratio", value=0.5, align=1, synthetic=False)
RUNS = (
    "computed_bias_and_scale dense_block depthwise_multiplier2 dynamic_everything gemm_stack "
    "matmul_add_head quantised_weights shared_bias squeeze_excite_gemm two_outputs_one_inner"
).split()
"""Checked on every run; the others on long ones."""
UNUSUAL = {"inputs_of_unlike_batch"}
"""Not every input has an axis of samples."""


def samples_for(model: onnx_scsp.graph.model.Model, count: int = 24) -> CalibrationData:
    rng = np.random.default_rng(0)
    found = independent_twin.random_inputs(model.proto, 0)
    data = {}
    for item in model_inputs(model):
        shape = (count * max(item.sizes[0], 1), *found[item.name].shape[1:])
        drawn = rng.standard_normal(shape) if item.dtype.kind == "f" else rng.integers(0, 2, shape)
        data[item.name] = drawn.astype(item.dtype)
    return open_calibration(data, model)


def has_samples(name: str) -> bool:
    inputs = NETS[name]().graph.input
    return name not in UNUSUAL and all(value.type.tensor_type.shape.dim for value in inputs)


@pytest.fixture
def coupling() -> Coupling:
    return find_coupling(from_proto(NETS["residual_projection"]()))


# ---- whole runs -------------------------------------------------------------------------------


def run_through(name: str, folder: Path) -> None:
    source, output, plan = (folder / file for file in ("a.onnx", "b.onnx", "p.json"))
    onnx.save(NETS[name](), source)
    data = samples_for(onnx_scsp.load(source))
    result = onnx_scsp.prune(source, output, HALF, calibration=data, plan_out=plan)
    assert result.report
    assert result.after.macs < result.before.macs
    assert all(0 <= fit.after <= fit.before for fit in result.fits)
    assert bool(result.plan.refit) == any(fit.share is not None for fit in result.fits)
    # again from what was written
    assert onnx_scsp.verify(source, output, onnx_scsp.read_plan(plan))
    allowed = set(result.plan.refit)
    before, after = onnx.load(source), onnx.load(output)
    shapes = {t.name: t for t in before.graph.initializer}
    for tensor in after.graph.initializer:
        old = shapes.get(tensor.name)
        if old is not None and list(old.dims) == list(tensor.dims) and tensor.name not in allowed:
            np.testing.assert_array_equal(numpy_helper.to_array(old), numpy_helper.to_array(tensor))


@pytest.mark.parametrize("name", RUNS)
def test_every_check_holds_after_a_repair_of(name: str, tmp_path: Path) -> None:
    run_through(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(name for name in set(NETS) - set(RUNS) if has_samples(name))
)
def test_every_check_holds_after_a_repair_of_any_other(name: str, tmp_path: Path) -> None:
    run_through(name, tmp_path)


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    proto = conv_net(dtype="float16", ir_version=10)
    onnx.save(proto, tmp_path / "a.onnx")
    model = onnx_scsp.load(tmp_path / "a.onnx")
    result = onnx_scsp.prune(
        model.path or "", tmp_path / "b.onnx", HALF, calibration=samples_for(model)
    )
    assert result.report
    assert result.plan.refit
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_external_data_stays_external_and_the_file_that_was_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.onnx"
    onnx.save(
        NETS["residual_projection"](), source, save_as_external_data=True, size_threshold=0,
        location="w.bin",
    )  # fmt: skip
    before = {p.name: p.read_bytes() for p in source.parent.iterdir()}
    model = onnx_scsp.load(source)
    output = tmp_path / "b.onnx"
    plan = tmp_path / "p.json"
    result = onnx_scsp.prune(source, output, HALF, calibration=samples_for(model), plan_out=plan)
    assert result.report
    assert onnx_scsp.load(output).external_files
    assert {p.name: p.read_bytes() for p in source.parent.iterdir()} == before
    assert onnx_scsp.verify(source, output, onnx_scsp.read_plan(plan))


def test_a_repaired_model_is_nearer_to_the_original_than_one_that_is_only_cut() -> None:
    model = from_proto(NETS["residual_projection"]())
    data = samples_for(model, 64)
    feeds = {"x": np.random.default_rng(7).standard_normal((64, 3, 8, 8)).astype(np.float32)}
    plan = onnx_scsp.make_plan(model, HALF, calibration=data)
    bare = {**plan.config, "compensate": "none"}
    outputs = [independent_twin.run(model.proto, feeds)]
    for config in (plan.config, bare):
        chosen = onnx_scsp.types.PrunePlan(
            plan.schema, plan.model_sha256, config, plan.cuts, plan.groups, plan.frozen
        )
        pruned = onnx_scsp.apply_plan(model, chosen, calibration=data)
        outputs.append(independent_twin.run(pruned.proto, feeds))
    original, repaired, cut = (next(iter(found.values())) for found in outputs)
    assert np.square(original - repaired).mean() < 0.7 * np.square(original - cut).mean()


# ---- plans ------------------------------------------------------------------------------------


def test_a_budget_is_met(coupling: Coupling) -> None:
    data = samples_for(coupling.model)
    for target in ("macs", "params"):
        config = PruneConfig(target=target, value=0.6, align=1)
        plan = onnx_scsp.make_plan(coupling.model, config, calibration=data)
        macs = onnx_scsp.apply_plan(coupling.model, plan, calibration=data)
        whole = find_coupling(from_proto(macs.proto))
        share = (
            whole.macs / coupling.macs
            if target == "macs"
            else whole.map.params / coupling.map.params
        )
        assert 0.4 < share <= 0.6
        assert plan.config["method"] == "output-aware"


def test_a_plan_is_the_same_however_often_it_is_made(coupling: Coupling) -> None:
    data = samples_for(coupling.model)
    texts = {
        onnx_scsp.plan_to_json(onnx_scsp.make_plan(coupling.model, HALF, calibration=data))
        for _ in range(2)
    }
    assert len(texts) == 1


def test_a_method_of_weights_alone_may_have_inputs_for_the_repair(coupling: Coupling) -> None:
    config = PruneConfig(target="ratio", value=0.5, align=1, method="l2", synthetic=False)
    data = samples_for(coupling.model)
    plans = [onnx_scsp.make_plan(coupling.model, config, calibration=d) for d in (data, None)]
    kept = [[cut.keep for cut in plan.cuts] for plan in plans]
    assert kept[0] == kept[1]
    assert [needs_repair(plan.config) for plan in plans] == [True, False]


def test_a_plan_that_repairs_cannot_be_carried_out_without_inputs(coupling: Coupling) -> None:
    plan = onnx_scsp.make_plan(coupling.model, HALF, calibration=samples_for(coupling.model))
    with pytest.raises(ConfigError, match="give them with --calib"):
        onnx_scsp.apply_plan(coupling.model, plan)


def test_a_plan_that_cuts_nothing_needs_no_inputs(coupling: Coupling) -> None:
    plan = onnx_scsp.make_plan(coupling.model, HALF, calibration=samples_for(coupling.model))
    nothing = onnx_scsp.types.PrunePlan(
        plan.schema, plan.model_sha256, plan.config, (), plan.groups, plan.frozen
    )
    assert onnx_scsp.apply_plan(coupling.model, nothing).fits == ()


# ---- repairs ----------------------------------------------------------------------------------


def test_a_repair_keeps_hash_shapes_and_the_original(coupling: Coupling) -> None:
    inputs = passes(coupling, samples_for(coupling.model), HALF)
    assert inputs is not None
    plan = onnx_scsp.make_plan(coupling.model, HALF, calibration=inputs.data)
    before = coupling.model.proto.SerializeToString()
    found = repair(coupling, plan, inputs, threads=1, progress=lambda *_: None)
    assert coupling.model.proto.SerializeToString() == before
    assert found.model.sha256 == coupling.model.sha256
    assert plan.refit == () != found.plan.refit
    old, new = (m.proto.graph.initializer for m in (coupling.model, found.model))
    changed = [a.name for a, b in zip(old, new, strict=True) if a != b]
    assert set(changed) <= set(found.plan.refit)
    assert [list(t.dims) for t in old] == [list(t.dims) for t in new]
    same = with_values(coupling, found.model)
    name = found.plan.refit[0]
    assert not np.array_equal(same.walk.constants.array(name), coupling.walk.constants.array(name))
    assert same.offsets is coupling.offsets


# ---- batches ----------------------------------------------------------------------------------


def test_small_models_run_in_large_batches_and_every_sample_once(coupling: Coupling) -> None:
    inputs = passes(coupling, samples_for(coupling.model, 150), HALF)
    assert inputs is not None
    sizes = [len(batch["x"]) for batch in inputs]
    assert (inputs.size, inputs.samples) == (LARGEST_BATCH, 150)
    assert sizes == [64, 64, 22] == [len(batch["x"]) for batch in inputs]


def test_large_activations_make_small_batches() -> None:
    proto = NETS["plain_bn"]()
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 512
    model = from_proto(proto)
    data = open_calibration(np.zeros((3, 3, 512, 512), np.float32), model)
    inputs = passes(find_coupling(model), data, HALF)
    assert inputs is not None
    assert 1 <= inputs.size < 16


def test_a_fixed_batch_is_kept() -> None:
    proto = NETS["plain_bn"]()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    model = from_proto(proto)
    inputs = passes(find_coupling(model), samples_for(model, 3), HALF)
    assert inputs is not None
    assert [len(batch["x"]) for batch in inputs] == [4, 4, 4]
    assert inputs.samples == 12
