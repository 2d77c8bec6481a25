"""Calibration inputs on the command line: what they change, what needs them, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from net_builder import image
from onnx import numpy_helper
from typer.testing import Result

Run = Callable[..., Result]
RunJson = Callable[..., dict[str, Any]]
BUDGET = ("--macs", "0.6", "--align", "1")
BARE = ("--no-synthetic",)


def network() -> onnx.ModelProto:
    n, x = image()
    x = n.block(x, 8)
    y = n.bn(n.conv(n.block(x, 12), 8))
    return n.build(n.head(n.relu(n.op("Add", x, y))))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a model, inputs for it, and inputs of no use."""
    onnx.save(network(), tmp_path / "a.onnx")
    rng = np.random.default_rng(0)
    good = rng.standard_normal((24, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "good.npz", x=good)
    np.savez(tmp_path / "other.npz", x=good[::-1] * 2)
    np.savez(tmp_path / "name.npz", y=good)
    np.savez(tmp_path / "shape.npz", x=good[:, :2])
    np.savez(tmp_path / "empty.npz", x=good[:0])
    good[20, 1, 2, 3] = np.nan
    np.savez(tmp_path / "nan.npz", x=good)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04rest")
    (tmp_path / "text.txt").write_text("no inputs")
    (tmp_path / "folder").mkdir()
    (tmp_path / "b.onnx").write_bytes(b"precious")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(result: Result, words: str) -> None:
    """Exit status 2, one sentence on stderr."""
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")


# ---- what they change -------------------------------------------------------------------------


def test_prune_chooses_by_the_outputs_and_repairs(run_json: RunJson, folder: Path) -> None:
    data = run_json(
        "prune", "a.onnx", "-o", "b.onnx", *BUDGET, "--calib", "good.npz", "--plan-out", "p.json"
    )
    checks = {check["name"]: check["passed"] for check in data["checks"]}
    assert {"repair", "masked twin", "permutation", "macs"} <= set(checks)
    assert all(checks.values())
    assert data["achieved"] <= 0.6
    plan = json.loads((folder / "p.json").read_text())
    assert plan["config"]["method"] == "output-aware"
    assert plan["config"]["compensate"] == "reconstruct"
    names = {tensor.name for tensor in onnx.load("a.onnx").graph.initializer}
    assert plan["refit"]
    assert set(plan["refit"]) <= names


def test_without_any_nothing_is_repaired(run_json: RunJson, folder: Path) -> None:
    data = run_json("prune", "a.onnx", "-o", "b.onnx", *BUDGET, *BARE, "--plan-out", "p.json")
    assert "repair" not in {check["name"] for check in data["checks"]}
    plan = json.loads((folder / "p.json").read_text())
    assert (plan["config"]["method"], plan["config"]["compensate"]) == ("scsp", "merge")
    assert "refit" not in plan


@pytest.mark.parametrize(
    ("options", "method", "compensate"),
    [
        (("--method", "l2"), "l2", "reconstruct"),
        (("--compensate", "merge"), "output-aware", "merge"),
        (("--no-merge",), "output-aware", "none"),
        (("--no-merge", "--compensate", "none"), "output-aware", "none"),
    ],
)
def test_either_half_can_be_had_alone(
    options: tuple[str, ...], method: str, compensate: str, run_json: RunJson, folder: Path
) -> None:
    calib = ("--calib", "good.npz", "--plan-out", "p.json")
    data = run_json("prune", "a.onnx", "-o", "b.onnx", *BUDGET, *calib, *options)
    plan = json.loads((folder / "p.json").read_text())
    assert (plan["config"]["method"], plan["config"]["compensate"]) == (method, compensate)
    assert ("refit" in plan) == (compensate == "reconstruct")
    assert all(check["passed"] for check in data["checks"])


def test_the_same_inputs_give_the_same_bytes(run: Run, folder: Path) -> None:
    made = []
    for data in ("good.npz", "good.npz", "other.npz"):
        options = (*BUDGET, "--calib", data, "--plan-out", "p.json")
        assert run("prune", "a.onnx", "-o", "b.onnx", *options).exit_code == 0
        made.append(((folder / "b.onnx").read_bytes(), (folder / "p.json").read_bytes()))
    assert made[0] == made[1]
    assert made[0][0] != made[2][0]


def test_plan_and_apply_are_prune(run: Run, folder: Path) -> None:
    calib = ("--calib", "good.npz")
    assert run("prune", "a.onnx", "-o", "b.onnx", *BUDGET, *calib).exit_code == 0
    assert run("plan", "a.onnx", "-o", "p.json", *BUDGET, *calib).exit_code == 0
    result = run("apply", "a.onnx", "p.json", "-o", "c.onnx", *calib)
    assert result.exit_code == 0, result.output
    assert (folder / "c.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_a_plan_that_names_its_refits_is_applied_alike(run: Run, folder: Path) -> None:
    calib = ("--calib", "good.npz")
    options = (*BUDGET, *calib, "--plan-out", "p.json")
    assert run("prune", "a.onnx", "-o", "b.onnx", *options).exit_code == 0
    assert run("apply", "a.onnx", "p.json", "-o", "c.onnx", *calib).exit_code == 0
    assert (folder / "c.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


# ---- verify -----------------------------------------------------------------------------------


@pytest.fixture
def pruned(run: Run, folder: Path) -> Path:
    options = (*BUDGET, "--calib", "good.npz", "--plan-out", "p.json")
    assert run("prune", "a.onnx", "-o", "b.onnx", *options).exit_code == 0
    return folder


def test_verify_passes_on_the_files_alone(run: Run, pruned: Path) -> None:
    result = run("verify", "a.onnx", "b.onnx", "--plan", "p.json")
    assert result.exit_code == 0, result.output
    assert "repair" in result.output


def test_verify_fails_on_a_damaged_result(run: Run, pruned: Path) -> None:
    refit = json.loads((pruned / "p.json").read_text())["refit"]
    proto = onnx.load("b.onnx")
    stays = [t for t in proto.graph.initializer if t.name not in refit and len(t.dims) == 4]
    array = numpy_helper.to_array(stays[0]).copy()
    array.flat[0] += 1.0
    stays[0].CopyFrom(numpy_helper.from_array(array, stays[0].name))
    onnx.save(proto, "damaged.onnx")
    assert run("verify", "a.onnx", "damaged.onnx", "--plan", "p.json").exit_code == 1


def test_verify_refuses_a_plan_that_refits_a_stranger(run: Run, pruned: Path) -> None:
    plan = json.loads((pruned / "p.json").read_text())
    plan["refit"].append("nothing")
    (pruned / "p.json").write_text(json.dumps(plan))
    result = run("verify", "a.onnx", "b.onnx", "--plan", "p.json")
    refused(result, "'nothing' refitted, which is no constant of both files")


# ---- what needs them, and what contradicts ----------------------------------------------------

NEEDED = {
    "output-aware": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, *BARE, "--method", "output-aware"),
        "--method output-aware works from sample inputs; give some with --calib",
    ),
    "output-aware plan": (
        ("plan", "a.onnx", "-o", "q.json", *BUDGET, *BARE, "--method", "output-aware"),
        "--method output-aware works from sample inputs; give some with --calib",
    ),
    "reconstruct": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, *BARE, "--compensate", "reconstruct"),
        "--compensate reconstruct works from sample inputs; give some with --calib",
    ),
    "an unknown repair": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, "--compensate", "magic"),
        "--compensate 'magic' is unknown",
    ),
    "no-merge and merge": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, "--no-merge", "--compensate", "merge"),
        "--no-merge and --compensate merge contradict each other",
    ),
    "no-merge and reconstruct": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, "--calib", "good.npz", "--no-merge",
         "--compensate", "reconstruct"),
        "--no-merge and --compensate reconstruct contradict each other",
    ),
    "preprocessing without images": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, "--size", "8"),
        "--size is for images; give --calib FOLDER",
    ),
    "no samples wanted": (
        ("prune", "a.onnx", "-o", "b.onnx", *BUDGET, "--calib", "good.npz", "--calib-limit", "0"),
        "is not positive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NEEDED)
def test_options_are_refused(case: str, run: Run, folder: Path) -> None:
    arguments, words = NEEDED[case]
    before = snapshot(folder)
    refused(run(*arguments), words)
    assert snapshot(folder) == before


def test_apply_wants_inputs_for_a_plan_that_repairs(run: Run, folder: Path) -> None:
    options = (*BUDGET, "--calib", "good.npz")
    assert run("plan", "a.onnx", "-o", "p.json", *options).exit_code == 0
    before = snapshot(folder)
    refused(run("apply", "a.onnx", "p.json", "-o", "b.onnx"), "give them with --calib")
    assert snapshot(folder) == before


def test_apply_needs_none_for_a_plan_that_only_cuts(run: Run, folder: Path) -> None:
    options = (*BUDGET, "--calib", "good.npz", "--compensate", "none")
    assert run("plan", "a.onnx", "-o", "p.json", *options).exit_code == 0
    assert run("apply", "a.onnx", "p.json", "-o", "b.onnx").exit_code == 0


BAD = {
    "missing.npz": "no such file or folder",
    "name.npz": "holds y; the model's inputs are x",
    "shape.npz": "input 'x' is 24x2x8x8",
    "empty.npz": "holds no samples",
    "nan.npz": "values that are not finite",
    "broken.npz": "cannot be read as .npy or .npz",
    "text.txt": "is no calibration data",
    "folder": "",
    "nowhere:inputs": "nowhere",
}


@pytest.mark.parametrize("verb", ["prune", "plan"])
@pytest.mark.parametrize("data", BAD)
def test_inputs_of_no_use_leave_everything_as_it_was(
    data: str, verb: str, run: Run, folder: Path
) -> None:
    before = snapshot(folder)
    refused(run(verb, "a.onnx", "-o", "b.onnx", *BUDGET, "--calib", data), BAD[data])
    assert snapshot(folder) == before


def test_inputs_of_no_use_stop_apply_too(run: Run, folder: Path) -> None:
    options = (*BUDGET, "--calib", "good.npz")
    assert run("plan", "a.onnx", "-o", "p.json", *options).exit_code == 0
    before = snapshot(folder)
    for data in ("nan.npz", "missing.npz"):
        refused(run("apply", "a.onnx", "p.json", "-o", "b.onnx", "--calib", data), BAD[data])
    assert snapshot(folder) == before


def test_one_sample_is_enough(run: Run, folder: Path) -> None:
    options = (*BUDGET, "--calib", "good.npz", "--calib-limit", "1")
    result = run("prune", "a.onnx", "-o", "b.onnx", *options)
    assert result.exit_code == 0, result.output
