"""Every verb, and its JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest


def test_prune_json_has_the_promised_keys_and_figures(run_json, model, tmp_path):
    out = tmp_path / "out.onnx"
    data = run_json("prune", model, "-o", out, "--macs", 0.5)
    for side in ("before", "after"):
        assert set(data[side]) == {"macs", "params", "bytes"}
    assert data["after"]["bytes"] == out.stat().st_size
    assert data["before"]["bytes"] == model.stat().st_size
    assert data["target"] == {"macs": 0.5}
    assert data["achieved"] == data["after"]["macs"] / data["before"]["macs"] <= 0.5
    assert any(group["after"] < group["before"] for group in data["groups"])
    assert {entry["reason"] for entry in data["frozen"]} == {"GRAPH_OUTPUT"}
    checks = {check["name"]: check for check in data["checks"]}
    assert all(check["passed"] for check in checks.values())
    assert {"checker", "interface", "runtime", "masked twin", "permutation", "macs"} <= set(checks)
    assert set(data["seconds"]) == {"load", "couple", "plan", "cut", "verify and write"}


def test_prune_json_layers_match_the_written_weights(run_json, model, tmp_path):
    out = tmp_path / "out.onnx"
    data = run_json("prune", model, "-o", out, "--ratio", 0.5)
    shapes = {t.name: tuple(t.dims) for t in onnx.load(out).graph.initializer}
    for layer in data["layers"]:
        assert shapes[f"{layer['node']}.weight"][0] == layer["after"]


def test_prune_table_ends_with_the_verdict(run, model, tmp_path):
    result = run("prune", model, "-o", tmp_path / "out.onnx", "--macs", 0.5)
    assert result.exit_code == 0
    assert "masked twin" in result.stdout
    assert "all checks passed" in " ".join(result.stdout.split())


def test_plan_then_apply_equals_prune(run, model, tmp_path):
    plan, applied, pruned = (tmp_path / name for name in ("p.json", "a.onnx", "b.onnx"))
    assert run("plan", model, "-o", plan, "--params", 0.6).exit_code == 0
    assert run("apply", model, plan, "-o", applied).exit_code == 0
    other = tmp_path / "q.json"
    result = run("prune", model, "-o", pruned, "--params", 0.6, "--plan-out", other)
    assert result.exit_code == 0
    assert applied.read_bytes() == pruned.read_bytes()
    assert plan.read_bytes() == other.read_bytes()


def test_same_command_twice_gives_the_same_bytes(run, model, tmp_path):
    files = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for file in files:
        arguments = ("--macs", 0.5, "--method", "random", "--seed", 3)
        assert run("prune", model, "-o", file, *arguments).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_another_seed_gives_another_random_cut(run, model, tmp_path):
    files = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for seed, file in enumerate(files):
        arguments = ("--ratio", 0.5, "--method", "random", "--seed", seed)
        assert run("prune", model, "-o", file, *arguments).exit_code == 0
    assert files[0].read_bytes() != files[1].read_bytes()


def test_inspect_json_names_groups_chains_and_reasons(run_json, model):
    data = run_json("inspect", model)
    chains = {chain["node"]: chain for chain in data["chains"]}
    assert chains["stem.conv"]["norm"] == "stem.bn"
    assert chains["stem.conv"]["activation"] == "Relu"
    groups = {layer: group for group in data["groups"] for layer in group["layers"]}
    assert groups["block2.conv2"] is groups["block2.proj.conv"]
    assert groups["grouped.conv"]["units"] == 16
    (held,) = data["not_prunable"]
    assert held["layer"] == "head.fc"
    assert held["reasons"][0]["reason"] == "GRAPH_OUTPUT"
    assert 0 < data["floor"] < 0.1


def test_inspect_table_names_the_blocking_node(run, model):
    result = run("inspect", model)
    assert result.exit_code == 0
    assert "GRAPH_OUTPUT" in result.stdout
    assert "logits" in result.stdout


def test_verify_fails_with_status_1_on_a_tampered_result(run, model, tmp_path):
    out, plan = tmp_path / "out.onnx", tmp_path / "p.json"
    assert run("prune", model, "-o", out, "--macs", 0.5, "--plan-out", plan).exit_code == 0
    assert run("verify", model, out, "--plan", plan).exit_code == 0
    proto = onnx.load(out)
    weight = next(t for t in proto.graph.initializer if t.name == "head.fc.weight")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0] += 1.0
    weight.raw_data = array.tobytes()
    onnx.save(proto, out)
    result = run("verify", model, out, "--plan", plan)
    assert result.exit_code == 1
    assert "FAILED" in result.stdout


def test_verify_reports_agreement_on_given_inputs(run, model, tmp_path):
    out, data = tmp_path / "out.onnx", tmp_path / "x.npy"
    assert run("prune", model, "-o", out, "--macs", 0.5).exit_code == 0
    images = np.random.default_rng(0).random((20, 1, 8, 8), np.float32)
    np.save(data, images)
    result = run("verify", model, out, "--data", data, "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    dense, small = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, {"image": images}
        )[0]
        for path in (model, out)
    )
    expected = (dense.argmax(axis=1) == small.argmax(axis=1)).mean()
    assert checks["top-1 agreement"]["value"] == pytest.approx(expected)


def test_ops_lists_every_rule(run_json):
    import onnx_scsp

    listed = {(entry["domain"], entry["op"]) for entry in run_json("ops")["operators"]}
    assert listed == set(onnx_scsp.RULES)


def test_no_merge_absorbs_nothing(run_json, model, tmp_path):
    arguments = ("prune", model, "-o", tmp_path / "o.onnx", "--ratio", 0.5)
    merged = run_json(*arguments)
    dropped = run_json(*arguments, "--no-merge")
    assert sum(group["absorbed"] for group in merged["groups"]) > 0
    assert sum(group["absorbed"] for group in dropped["groups"]) == 0


def test_ignored_layers_keep_their_channels(run_json, model, tmp_path):
    data = run_json(
        "prune", model, "-o", tmp_path / "o.onnx", "--ratio", 0.5, "--ignore", "block1.*"
    )
    layers = {layer["node"]: layer for layer in data["layers"]}
    assert layers["block1.conv1"]["after"] == layers["block1.conv1"]["before"]
    assert layers["block2.conv1"]["after"] < layers["block2.conv1"]["before"]


def test_a_second_look_is_the_default_and_written_into_the_plan(run_json, model, tmp_path):
    for given in ((), ("--no-second-look",)):
        words = ("--macs", "0.7", "--no-synthetic", *given)
        run_json("plan", model, "-o", tmp_path / "p.json", *words)
        config = json.loads((tmp_path / "p.json").read_text())["config"]
        assert config["second_look"] is not bool(given)


def test_approximate_is_written_into_the_plan(run_json, model, tmp_path):
    for given in ((), ("--approximate",)):
        run_json("plan", model, "-o", tmp_path / "p.json", "--ratio", 0.5, *given)
        assert json.loads((tmp_path / "p.json").read_text())["config"]["approximate"] is bool(given)


def test_help_loads_nothing_heavy():
    script = (
        "import sys\n"
        "from onnx_scsp.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'scipy', 'torch'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "HEAVY []" in done.stdout


def test_running_a_verb_does_load_them():
    script = (
        "import sys\n"
        "from onnx_scsp.cli.app import app\n"
        "app(['ops'], standalone_mode=False)\n"
        "print('HEAVY', 'onnx' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "HEAVY True" in done.stdout
