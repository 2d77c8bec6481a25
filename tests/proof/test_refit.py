"""Refitted constants are put back from the result, and nothing else passes for a repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from net_builder import Net, image
from nets import NETS
from onnx import numpy_helper

import onnx_scsp
from onnx_scsp.calibration import open_calibration
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import overwrite
from onnx_scsp.proof import verify_files
from onnx_scsp.proof.refit import check_only_values, put_back
from onnx_scsp.types import PrunePlan

HALF = onnx_scsp.PruneConfig(target="ratio", value=0.5, align=1, method="scsp", compensate="none")
ZOO = (
    "channel_shuffle constant_nodes conv_transpose_grouped half_precision_store old_style_ir3 "
    "residual_projection weights_behind_views"
).split()


def arrays(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every stored constant."""
    found = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def refittable(model: Model) -> list[str]:
    return [
        name
        for name, array in arrays(model.proto).items()
        if array.dtype.kind == "f" and array.size > 1
    ]


def raised(model: Model, names: list[str]) -> Model:
    """The same model with 1 added to some constants."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for name in names:
        array = arrays(proto)[name]
        overwrite(proto, name, (array + 1).astype(array.dtype))
    return Model(proto, model.path, model.sha256, model.external_files)


def cut(model: Model, plan: PrunePlan) -> Model:
    return from_proto(onnx_scsp.apply_plan(model, plan).proto)


# ---- known answers ----------------------------------------------------------------------------


def turned() -> onnx.ModelProto:
    """The groups of a channel shuffle with their weights stored transposed."""
    proto = NETS["channel_shuffle"]()
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for index, node in reversed(list(enumerate(proto.graph.node))):
        if any(a.name == "group" and a.i == 2 for a in node.attribute):
            name = node.input[1]
            array = numpy_helper.to_array(stored[name]).transpose(1, 0, 2, 3)
            stored[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
            node.input[1] = f"{name}_used"
            view = onnx.helper.make_node(
                "Transpose", [name], [f"{name}_used"], f"{name}_view", perm=[1, 0, 2, 3]
            )
            proto.graph.node.insert(index, view)
    return proto


@pytest.mark.parametrize("build", [*(NETS[name] for name in ZOO), turned])
def test_values_return_to_the_entries_that_stay_and_nowhere_else(
    build: Callable[[], onnx.ModelProto],
) -> None:
    model = from_proto(build())
    plan = onnx_scsp.make_plan(model, HALF)
    bare = cut(model, plan)
    own = [name for name in refittable(model) if name in arrays(bare.proto)]
    result = cut(raised(model, own), plan)
    found = put_back(model, result, replace(plan, refit=tuple(own)))
    before, after, small = (arrays(m.proto) for m in (model, found, result))
    assert any(small[name].size < before[name].size for name in own)
    for name in before:
        moved = after[name].astype(float) - before[name]
        if name not in own:
            assert not moved.any()
            continue
        # every entry that is left was raised by about 1, every other stands
        assert np.isclose(moved, 1, atol=1e-2).sum() == small[name].size
        assert np.isin(moved.round(1), [0.0, 1.0]).all()
    again = cut(found, plan)
    assert arrays(again.proto).keys() == small.keys()
    for name, array in arrays(again.proto).items():
        np.testing.assert_array_equal(array, small[name])


def test_the_model_with_the_values_keeps_its_hash_and_the_original_its_values() -> None:
    model = from_proto(NETS["plain_bn"]())
    plan = replace(onnx_scsp.make_plan(model, HALF), refit=("c5",))
    before = model.proto.SerializeToString()
    found = put_back(model, cut(raised(model, ["c5"]), plan), plan)
    assert found.sha256 == model.sha256
    assert model.proto.SerializeToString() == before != found.proto.SerializeToString()


def test_a_constant_whose_reshaped_form_was_cut_takes_its_values_from_that() -> None:
    n, x = image()
    y = n.conv(x, 8, bias=False)
    stored = n.random(8, name="b")
    y = n.op("Add", y, n.op("Reshape", stored, n.const([1, 8, 1, 1])))
    model = from_proto(n.build(n.conv(n.relu(y), 4)))
    plan = replace(onnx_scsp.make_plan(model, HALF), refit=("b",))
    result = cut(raised(model, ["b"]), plan)
    assert "b" not in arrays(result.proto)
    moved = arrays(put_back(model, result, plan).proto)["b"] - arrays(model.proto)["b"]
    keep = np.isin(np.arange(8), plan.cuts[0].keep)
    np.testing.assert_allclose(moved, np.where(keep, 1.0, 0.0), atol=1e-6)


# ---- whole runs, from the files alone ---------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """A finished run: the files and the plan."""

    a: Path
    b: Path
    plan: PrunePlan
    report: onnx_scsp.types.VerifyReport

    def verify(self, b: Path | None = None, plan: PrunePlan | None = None) -> dict[str, bool]:
        report = onnx_scsp.verify(self.a, b or self.b, plan or self.plan)
        return {check.name: check.passed for check in report.checks}


def prune(build: Callable[[], onnx.ModelProto], folder: Path, value: float = 0.5) -> Done:
    a, b, p = (folder / name for name in ("a.onnx", f"b{value}.onnx", "p.json"))
    onnx.save(build(), a)
    samples = np.random.default_rng(0).standard_normal((24, 3, 8, 8)).astype(np.float32)
    result = onnx_scsp.prune(
        a,
        b,
        onnx_scsp.PruneConfig(target="ratio", value=value, align=1),
        calibration=open_calibration(samples, onnx_scsp.load(a)),
        plan_out=p,
    )
    return Done(a, b, onnx_scsp.read_plan(p), result.report)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return prune(NETS["residual_projection"], tmp_path_factory.mktemp("refit"))


def damaged(done: Done, name: str, folder: Path) -> Path:
    """The result with one entry of one constant changed."""
    proto = onnx.load(done.b)
    array = arrays(proto)[name].copy()
    array.flat[0] += 1.0
    overwrite(proto, name, array)
    onnx.save(proto, folder / "damaged.onnx")
    return folder / "damaged.onnx"


@pytest.mark.parametrize("name", ["channel_shuffle", "conv_transpose_grouped", "constant_nodes"])
def test_a_repaired_result_is_verified_from_the_files_alone(name: str, tmp_path: Path) -> None:
    found = prune(NETS[name], tmp_path)
    assert found.plan.refit
    checks = found.verify()
    assert all(checks.values())
    assert {"repair", "masked twin", "permutation"} <= set(checks)


def test_the_run_itself_made_the_same_checks(done: Done) -> None:
    assert {check.name: check.passed for check in done.report.checks} == done.verify()


def test_a_damaged_constant_that_was_not_refitted_fails(done: Done, tmp_path: Path) -> None:
    stays = sorted(set(arrays(onnx.load(done.b))) - set(done.plan.refit))
    weights = [name for name in stays if arrays(onnx.load(done.b))[name].ndim == 4]
    assert weights
    checks = done.verify(damaged(done, weights[0], tmp_path))
    assert not checks["masked twin"]


def test_a_refitted_constant_may_have_any_values(done: Done, tmp_path: Path) -> None:
    """The reason why the plan has to name them: these values are the result's own."""
    assert all(done.verify(damaged(done, done.plan.refit[0], tmp_path)).values())


def test_a_refitted_constant_that_the_plan_does_not_name_fails(done: Done) -> None:
    for name in done.plan.refit[:2]:
        fewer = tuple(other for other in done.plan.refit if other != name)
        assert not done.verify(plan=replace(done.plan, refit=fewer))["masked twin"]


def test_a_plan_without_its_refits_fails(done: Done) -> None:
    assert not done.verify(plan=replace(done.plan, refit=()))["masked twin"]


def test_a_stranger_among_the_refits_is_refused(done: Done) -> None:
    for name in ("nothing", "", "x", "conv0"):
        with pytest.raises(PlanError, match="which is no constant of both files"):
            done.verify(plan=replace(done.plan, refit=(*done.plan.refit, name)))


def test_a_computed_constant_among_the_refits_is_refused() -> None:
    n, x = image()
    w = n.op("Mul", n.random(8, 3, 3, 3), n.const(2.0))
    y = n.relu(n.op("Conv", x, w, channels=8))
    model = from_proto(n.build(n.conv(y, 4)))
    plan = onnx_scsp.make_plan(model, HALF)
    with pytest.raises(PlanError, match="'mul0' refitted, which is no constant"):
        put_back(model, cut(model, plan), replace(plan, refit=("mul0",)))


def test_a_result_of_another_cut_is_refused(done: Done, tmp_path: Path) -> None:
    other = prune(NETS["residual_projection"], tmp_path, 0.75)
    with pytest.raises(PlanError, match="has another shape in the result than the plan foresees"):
        done.verify(other.b)


def test_a_result_of_another_type_is_refused() -> None:
    model = from_proto(NETS["plain_bn"]())
    plan = replace(onnx_scsp.make_plan(model, HALF), refit=("c5",))
    result = cut(model, plan)
    for tensor in result.proto.graph.initializer:
        if tensor.name == "c5":
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, "c5"))
    with pytest.raises(PlanError, match="another shape"):
        put_back(model, result, plan)


def test_a_plan_that_gives_a_refitted_constant_too_few_units_is_refused(done: Done) -> None:
    first = done.plan.refit[0]
    groups = tuple(
        replace(
            group,
            members=tuple(
                replace(m, units=m.units[..., :-1]) if m.tensor == first else m
                for m in group.members
            ),
        )
        for group in done.plan.groups
    )
    a, b = onnx_scsp.load(done.a), onnx_scsp.load(done.b)
    with pytest.raises(PlanError, match="another shape than the plan says"):
        put_back(a, b, replace(done.plan, groups=groups))


def test_a_constant_that_every_use_cuts_otherwise_cannot_be_refitted() -> None:
    model = from_proto(NETS["shared_bias"]())
    plan = onnx_scsp.make_plan(model, HALF)
    used = {m.tensor for group in plan.groups for m in group.members if m.uses}
    assert used == {"shared_bias"}
    result = from_proto(raised(model, ["shared_bias"]).proto)
    with pytest.raises(PlanError, match="cut for every use by itself"):
        put_back(model, result, replace(plan, refit=("shared_bias",)))


# ---- what a repair may change -----------------------------------------------------------------


def small() -> Model:
    n = Net()
    out = n.gemm(n.relu(n.gemm(n.input("N", 4), 4, 6)), 6, 3)
    proto = n.build(out)
    tensor = proto.graph.initializer[0]
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del proto.graph.initializer[0]
    return from_proto(proto)


@pytest.mark.parametrize("name", ["c0", "c2"])  # a Constant node, an initializer
def test_only_what_the_plan_names_may_take_new_values(name: str) -> None:
    model = small()
    plan = onnx_scsp.make_plan(model, HALF)
    changed = raised(model, [name])
    named = check_only_values(model, changed, replace(plan, refit=(name, "c3")))
    assert named.passed
    assert named.value == 1
    unnamed = check_only_values(model, changed, replace(plan, refit=("c3",)))
    assert not unnamed.passed
    assert f"'{name}'" in unnamed.detail


def test_a_repair_that_changes_more_than_the_plan_says_fails_the_run(done: Done) -> None:
    a, b = onnx_scsp.load(done.a), onnx_scsp.load(done.b)
    repaired = put_back(a, b, done.plan)
    fewer = replace(done.plan, refit=done.plan.refit[1:])
    reports = [verify_files(a, b, plan, repaired=repaired) for plan in (done.plan, fewer)]
    passed = [{c.name: c.passed for c in report.checks}["repair"] for report in reports]
    assert passed == [True, False]


# ---- the plan file ----------------------------------------------------------------------------


def test_the_plan_file_names_the_refits(done: Done) -> None:
    again = onnx_scsp.plan_from_json(onnx_scsp.plan_to_json(done.plan))
    assert again.refit == done.plan.refit != ()
    names = set(arrays(onnx.load(done.a)))
    assert set(done.plan.refit) <= names


def test_a_plan_without_refits_does_not_mention_them() -> None:
    plan = onnx_scsp.make_plan(from_proto(NETS["plain_bn"]()), HALF)
    text = onnx_scsp.plan_to_json(plan)
    assert "refit" not in text
    assert onnx_scsp.plan_from_json(text).refit == ()


@pytest.mark.parametrize("refit", ['"c5"', "[5]", "{}", "[null]", '[["c5"]]', "7"])
def test_refits_that_are_no_names_are_refused(refit: str) -> None:
    text = onnx_scsp.plan_to_json(onnx_scsp.make_plan(from_proto(NETS["plain_bn"]()), HALF))
    bad = text.replace(' "groups":', f' "refit": {refit},\n "groups":', 1)
    assert bad != text
    with pytest.raises(PlanError):
        onnx_scsp.plan_from_json(bad)
