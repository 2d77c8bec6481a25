"""What the pages say is run: commands, code, links."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onnx_scsp.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.M | re.S)


def test_readme_commands_run_in_order(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    ours = [shlex.split(line)[1:] for line in commands if line.startswith("onnx-scsp ")]
    assert len(ours) >= 4
    for arguments in ours:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output)


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert "all checks passed: True" in capsys.readouterr().out


def test_the_operator_page_example_is_a_working_rule(tmp_path):
    import textwrap

    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    import onnx_scsp

    (code,) = blocks(ROOT / "docs" / "coupling.md", "python")
    space: dict[str, object] = {}
    exec(compile(textwrap.dedent(code), "coupling.md", "exec"), space)
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((8, 3, 1, 1)),
        "gain": rng.standard_normal(8),
        "w2": rng.standard_normal((4, 8, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("ScaleShift", ["a", "gain"], ["b"], domain="com.acme"),
        helper.make_node("Conv", ["b", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
        value_info=[helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 8, 4, 4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    path = tmp_path / "m.onnx"
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    rules = onnx_scsp.RULES | onnx_scsp.rule_table([space["RULE"]])
    without = onnx_scsp.find_groups(onnx_scsp.load(path))
    (group,) = onnx_scsp.find_groups(onnx_scsp.load(path), rules=rules).groups
    assert not without.groups
    assert {(m.tensor, m.role.value) for m in group.members} == {
        ("w1", "makes"),
        ("gain", "scales"),
        ("w2", "reads"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_verb_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    names = [command.name for command in app.registered_commands]
    assert "prune" in names
    assert [name for name in names if f"| `{name}" not in text] == []


def test_every_method_is_in_the_method_page():
    from onnx_scsp.plan import METHODS

    text = (ROOT / "docs" / "methods.md").read_text()
    assert [name for name in METHODS if f"`{name}`" not in text] == []
