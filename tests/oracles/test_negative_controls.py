"""Controls: every oracle is shown a mistake that it has to notice."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from more_nets import image
from nets import NETS
from onnx import numpy_helper

import onnx_scsp.pipeline as pipeline
from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import PlanError, VerifyError
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.ops import RULES, OpRule, rule_table
from onnx_scsp.ops.site import Site
from onnx_scsp.proof import verify_files
from onnx_scsp.types import PrunePlan, VerifyReport

CONTROLLED = ["residual_projection", "uneven_concat_split", "squeeze_excite_conv", "grouped"]


@dataclass(frozen=True)
class Cut:
    """A network pruned without merging, and its files."""

    original: Model
    pruned: Model
    plan: PrunePlan
    plan_file: Path

    def verify(self, plan: PrunePlan | None = None) -> VerifyReport:
        return verify_files(self.original, self.pruned, plan or self.plan)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cut]:
    return {name: make_cut(name, tmp_path_factory.mktemp(name)) for name in CONTROLLED}


def make_cut(name: str, folder: Path) -> Cut:
    paths = [folder / file for file in ("in.onnx", "out.onnx", "plan.json")]
    onnx.save(NETS[name](), str(paths[0]))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    result = pipeline.prune(paths[0], paths[1], config, plan_out=paths[2])
    return Cut(load(paths[0]), load(paths[1]), result.plan, paths[2])


def failed(report: VerifyReport) -> set[str]:
    return {check.name for check in report.failed}


def without_member(plan: PrunePlan, group: int, member: int) -> PrunePlan:
    members = list(plan.groups[group].members)
    del members[member]
    groups = list(plan.groups)
    groups[group] = dataclasses.replace(groups[group], members=tuple(members))
    return dataclasses.replace(plan, groups=tuple(groups))


def all_members(plan: PrunePlan) -> list[tuple[int, int]]:
    return [(g, m) for g, group in enumerate(plan.groups) for m in range(len(group.members))]


# ---- a forgotten member -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_oracles_pass_on_the_true_plan(name: str, cuts: dict[str, Cut]) -> None:
    assert failed(cuts[name].verify()) == set()


@pytest.mark.parametrize("name", CONTROLLED)
def test_permutation_notices_every_forgotten_member(name: str, cuts: dict[str, Cut]) -> None:
    cut = cuts[name]
    unnoticed = [
        cut.plan.groups[g].members[m].tensor
        for g, m in all_members(cut.plan)
        if "permutation" not in failed(cut.verify(without_member(cut.plan, g, m)))
    ]
    assert unnoticed == []


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_masked_twin_notices_every_forgotten_reader(name: str, cuts: dict[str, Cut]) -> None:
    cut = cuts[name]
    readers = [
        (g, m) for g, m in all_members(cut.plan) if cut.plan.groups[g].members[m].role == "reads"
    ]
    unnoticed = [
        cut.plan.groups[g].members[m].tensor
        for g, m in readers
        if "masked twin" not in failed(cut.verify(without_member(cut.plan, g, m)))
    ]
    assert readers
    assert unnoticed == []


# ---- a wrong keep set ---------------------------------------------------------------------------


def swapped(plan: PrunePlan, place: int) -> PrunePlan:
    """The plan with one kept and one removed unit of one group exchanged."""
    cut = plan.cuts[place]
    kept, removed = set(cut.keep), set(range(cut.n_units)) - set(cut.keep)
    keep = tuple(sorted((kept - {min(kept)}) | {min(removed)}))
    changed = [*plan.cuts]
    changed[place] = dataclasses.replace(cut, keep=keep)
    return dataclasses.replace(plan, cuts=tuple(changed))


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_masked_twin_notices_one_wrong_unit_in_any_group(
    name: str, cuts: dict[str, Cut]
) -> None:
    cut = cuts[name]
    for place in range(len(cut.plan.cuts)):
        assert failed(cut.verify(swapped(cut.plan, place))) == {"masked twin"}


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_independent_twin_notices_a_wrong_unit(
    name: str, cuts: dict[str, Cut], tmp_path: Path
) -> None:
    cut = cuts[name]
    wrong = tmp_path / "wrong.json"
    wrong.write_text(pipeline.plan_to_json(swapped(cut.plan, 0)))
    paths = (Path(str(model.path)) for model in (cut.original, cut.pruned))
    assert independent_twin.compare(*paths, wrong).error > 1e-2


# ---- a damaged result ---------------------------------------------------------------------------


def damage(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy with one initializer one per cent too large."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor) * np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return copy


def test_the_masked_twin_notices_one_per_cent_on_any_weight(
    cuts: dict[str, Cut], tmp_path: Path
) -> None:
    cut = cuts["residual_projection"]
    weights = [tensor.name for tensor in cut.pruned.proto.graph.initializer if len(tensor.dims) > 1]
    for name in weights:
        path = tmp_path / f"{name}.onnx"
        onnx.save(damage(cut.pruned.proto, name), str(path))
        report = verify_files(cut.original, load(path), cut.plan)
        assert failed(report) == {"masked twin"}, name
    assert len(weights) > 4


def test_a_damaged_result_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, output, plan = tmp_path / "in.onnx", tmp_path / "out.onnx", tmp_path / "plan.json"
    onnx.save(NETS["residual_projection"](), str(source))
    honest = pipeline.operate

    def dishonest(*args: object, **options: object) -> onnx.ModelProto:
        proto = honest(*args, **options)
        return damage(proto, proto.graph.initializer[0].name)

    monkeypatch.setattr(pipeline, "operate", dishonest)
    with pytest.raises(VerifyError, match="masked twin"):
        pipeline.prune(source, output, PruneConfig(), plan_out=plan)
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_a_result_with_another_interface_fails(cuts: dict[str, Cut], tmp_path: Path) -> None:
    cut = cuts["grouped"]
    proto = onnx.ModelProto()
    proto.CopyFrom(cut.pruned.proto)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(proto, str(tmp_path / "renamed.onnx"))
    report = verify_files(cut.original, load(tmp_path / "renamed.onnx"), cut.plan)
    assert "interface" in failed(report)


def test_a_result_that_yields_nan_fails(cuts: dict[str, Cut], tmp_path: Path) -> None:
    cut = cuts["grouped"]
    proto = onnx.ModelProto()
    proto.CopyFrom(cut.pruned.proto)
    tensor = proto.graph.initializer[-1]
    array = np.full(list(tensor.dims), np.nan, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, str(tmp_path / "nan.onnx"))
    report = verify_files(cut.original, load(tmp_path / "nan.onnx"), cut.plan)
    assert "finite" in failed(report)


def test_wrong_macs_fail(cuts: dict[str, Cut]) -> None:
    cut = cuts["grouped"]
    report = verify_files(cut.original, cut.pruned, cut.plan, macs=(1000, 1010))
    assert failed(report) == {"macs"}


def test_a_plan_of_another_model_is_refused(cuts: dict[str, Cut]) -> None:
    cut = cuts["grouped"]
    with pytest.raises(PlanError, match="was made for model"):
        cut.verify(cuts["residual_projection"].plan)


# ---- a wrong rule -------------------------------------------------------------------------------


def pass_on(site: Site) -> None:
    """A rule that claims that every channel stays on its own."""
    site.emit(site.x(0).labels)


def misdeclared(op_type: str) -> dict[tuple[str, str], OpRule]:
    return {**RULES, **rule_table((OpRule((op_type,), pass_on, "wrong on purpose"),))}


def mixing_net(op_type: str) -> onnx.ModelProto:
    """An operator that mixes channels between two convolutions."""
    n, x = image()
    x = n.conv(n.block(x, 8), 12)
    if op_type == "LRN":
        x = n.op("LRN", x, size=5, alpha=2.0, beta=0.75)
    else:
        x = n.op(op_type, x, axis=1)
    return n.build(n.head(n.block(x, 8)))


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_permutation_passes_but_the_twin_notices_a_symmetric_mixing_operator(
    op_type: str, tmp_path: Path
) -> None:
    report = report_of_misdeclared(op_type, tmp_path)
    assert failed(report) == {"masked twin"}


def test_permutation_notices_an_operator_that_mixes_neighbours(tmp_path: Path) -> None:
    assert "permutation" in failed(report_of_misdeclared("LRN", tmp_path))


def report_of_misdeclared(op_type: str, folder: Path) -> VerifyReport:
    rules = misdeclared(op_type)
    onnx.save(mixing_net(op_type), str(folder / "in.onnx"))
    model = load(folder / "in.onnx")
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    plan = pipeline.make_plan(model, config, rules=rules)
    return pipeline.verify(model, pipeline.apply_plan(model, plan, rules=rules), rules=rules)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "LRN"])
def test_a_wrong_rule_stops_the_pipeline_before_anything_is_written(
    op_type: str, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(mixing_net(op_type), str(source))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
    with pytest.raises(VerifyError, match="was not written"):
        pipeline.prune(source, output, config, rules=misdeclared(op_type))
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "LRN"])
def test_the_true_rule_keeps_the_mixed_channels(op_type: str, tmp_path: Path) -> None:
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(mixing_net(op_type), str(source))
    result = pipeline.prune(source, output, PruneConfig(target="ratio", value=0.5, align=1))
    assert result.layers["Conv3"] == (12, 12)
    assert result.layers["Conv0"] == (8, 4)
