"""Bad input: one clear sentence, exit status 2, nothing written, nothing changed."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

PRUNE = ("-o", "out.onnx", "--macs", "0.5")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    (tmp_path / "truncated.onnx").write_bytes(model.read_bytes()[:20_000])
    (tmp_path / "text.onnx").write_text("not a model\n")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "existing.onnx").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    _write_invalid(tmp_path / "invalid.onnx")
    _write_bare(tmp_path / "bare.onnx")
    _write_external(tmp_path / "external.onnx", model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_invalid(path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in "xy")
    node = helper.make_node("Relu", ["nowhere"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )


def _write_bare(path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )


def _write_external(path: Path, model: Path) -> None:
    onnx.save(onnx.load(model), path, save_as_external_data=True, location="weights.bin")
    (path.parent / "weights.bin").unlink()


CASES = {
    "no such file": (("prune", "missing.onnx", *PRUNE), "no such file"),
    "a directory": (("prune", "folder", *PRUNE), "is a directory"),
    "not ONNX": (("prune", "text.onnx", *PRUNE), "not a readable ONNX model"),
    "empty file": (("prune", "empty.onnx", *PRUNE), "not an ONNX model"),
    "truncated file": (("prune", "truncated.onnx", *PRUNE), "truncated"),
    "missing external data": (("prune", "external.onnx", *PRUNE), "'weights.bin' is missing"),
    "graph that fails the checker": (("prune", "invalid.onnx", *PRUNE), "fails the ONNX checker"),
    "nothing to prune": (("prune", "bare.onnx", *PRUNE), "nothing to prune"),
    "target above 1": (("prune", "model.onnx", "-o", "o.onnx", "--macs", "1.5"), "outside (0, 1)"),
    "target of 1": (("prune", "model.onnx", "-o", "o.onnx", "--params", "1"), "outside (0, 1)"),
    "target of 0": (("prune", "model.onnx", "-o", "o.onnx", "--ratio", "0"), "outside (0, 1)"),
    "target that is no number": (
        ("prune", "model.onnx", "-o", "o.onnx", "--macs", "nan"),
        "outside (0, 1)",
    ),
    "no target": (("prune", "model.onnx", "-o", "o.onnx"), "exactly one budget"),
    "two targets": (
        ("prune", "model.onnx", "-o", "o.onnx", "--macs", "0.5", "--ratio", "0.5"),
        "exactly one budget",
    ),
    "unreachable target": (
        ("prune", "model.onnx", "-o", "o.onnx", "--macs", "0.001"),
        "at least 0.0",
    ),
    "output in a missing folder": (
        ("prune", "model.onnx", "-o", "no/out.onnx", "--macs", "0.5"),
        "no existing folder",
    ),
    "output below a file": (
        ("prune", "model.onnx", "-o", "existing.onnx/out.onnx", "--macs", "0.5"),
        "no existing folder",
    ),
    "output that is a directory": (
        ("prune", "model.onnx", "-o", "folder", "--macs", "0.5"),
        "is a directory",
    ),
    "output equal to input": (
        ("prune", "model.onnx", "-o", "model.onnx", "--macs", "0.5"),
        "the input model itself",
    ),
    "plan equal to output": (
        ("prune", "model.onnx", *PRUNE, "--plan-out", "out.onnx"),
        "both for the model and for the plan",
    ),
    "unknown method": (("prune", "model.onnx", *PRUNE, "--method", "magic"), "use one of"),
    "pattern that matches nothing": (
        ("prune", "model.onnx", *PRUNE, "--ignore", "nosuch*"),
        "matches no layer",
    ),
    "time without a table": (
        ("prune", "model.onnx", *PRUNE, "--spend-by", "time", "--align", "8"),
        "leave out --align 8",
    ),
    "alignment of 0": (("prune", "model.onnx", *PRUNE, "--align", "0"), "not positive"),
    "input shape of wrong rank": (
        ("prune", "model.onnx", *PRUNE, "--input-shape", "image:1,8"),
        "2 axes given",
    ),
    "input shape for no input": (
        ("prune", "model.onnx", *PRUNE, "--input-shape", "picture:1,1,8,8"),
        "the model's inputs are image",
    ),
    "plan that is missing": (("apply", "model.onnx", "p.json", "-o", "o.onnx"), "cannot be read"),
    "plan that is no JSON": (
        ("apply", "model.onnx", "text.onnx", "-o", "o.onnx"),
        "not valid JSON",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_is_refused_with_one_sentence_and_changes_nothing(case, run, folder):
    arguments, sentence = CASES[case]
    before = snapshot(folder)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.stderr.split())
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert snapshot(folder) == before


def edited(plan: Path, change) -> Path:
    data = json.loads(plan.read_text())
    change(data)
    plan.write_text(json.dumps(data))
    return plan


def first_cut(data):
    return next(g for g in data["groups"] if len(g["keep"]) < g["units"])


EDITS = {
    "empties a group": (lambda d: first_cut(d).update(keep=[], absorbed_by={}, scales={}), "keeps"),
    "names a unit twice": (lambda d: first_cut(d)["keep"].append(first_cut(d)["keep"][0]), "twice"),
    "names a unit out of range": (lambda d: first_cut(d)["keep"].append(10_000), "out of range"),
    "lets a removed unit absorb": (
        lambda d: first_cut(d).update(absorbed_by={"0": 1}, keep=[2], scales={}),
        "contradicts",
    ),
    "changes a member": (
        lambda d: d["groups"][0]["members"][0].update(axis=1),
        "not as the model has it",
    ),
    "is of another model": (lambda d: d.update(model_sha256="0" * 64), "was made for model"),
    "is of another schema": (lambda d: d.update(schema=99), "schema"),
    "lacks its groups": (lambda d: d.pop("groups"), "malformed"),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_plan_is_refused_when_it(case, run, folder):
    plan = folder / "plan.json"
    assert run("plan", "model.onnx", "-o", plan, "--macs", "0.5").exit_code == 0
    change, sentence = EDITS[case]
    edited(plan, change)
    before = snapshot(folder)
    result = run("apply", "model.onnx", plan, "-o", "out.onnx")
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.stderr.split())
    assert snapshot(folder) == before


def test_an_edited_plan_that_agrees_with_itself_is_carried_out(run, folder):
    plan = folder / "plan.json"
    assert run("plan", "model.onnx", "-o", plan, "--ratio", "0.5", "--no-merge").exit_code == 0

    def keep_others(data):
        group = data["groups"][0]
        group["keep"] = list(range(group["units"] // 4))

    edited(plan, keep_others)
    result = run("apply", "model.onnx", plan, "-o", "out.onnx", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["groups"][0]["after"] == 8


def test_a_broken_result_is_not_written_and_exits_with_1(run, folder, monkeypatch):
    from onnx_scsp.surgery import cut

    monkeypatch.setattr(cut, "_merge", lambda array, *_: array)
    before = snapshot(folder)
    result = run("prune", "model.onnx", *PRUNE, "--ratio", "0.5")
    assert result.exit_code == 2  # two budgets: the guard is in front
    result = run("prune", "model.onnx", "-o", "out.onnx", "--ratio", "0.5")
    assert result.exit_code == 1
    assert "masked twin" in result.stderr
    assert snapshot(folder) == before


def test_a_bug_of_ours_exits_with_3_and_keeps_its_traceback(run, folder, monkeypatch):
    import onnx_scsp.pipeline

    def broken(*_args, **_kwargs):
        raise RuntimeError("planted")

    monkeypatch.setattr(onnx_scsp.pipeline, "find_coupling", broken)
    result = run("prune", "model.onnx", *PRUNE)
    assert result.exit_code == 3
    assert "planted" in result.stderr
    assert "please report it" in result.stderr
