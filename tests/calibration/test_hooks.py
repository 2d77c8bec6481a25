"""Functions named as module:function."""

from __future__ import annotations

import sys

import pytest

from onnx_scsp.calibration.hooks import failure, load_hook, parameters
from onnx_scsp.errors import ConfigError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_a_function_of_a_module_in_the_current_folder_is_found(here):
    (here / "hook_found.py").write_text("def f():\n    return 7\n")
    assert load_hook("hook_found:f")() == 7


def test_a_function_of_an_installed_module_is_found():
    assert load_hook("math:sqrt")(9) == 3


def test_a_function_of_a_package_is_found(here):
    (here / "hook_pack").mkdir()
    (here / "hook_pack" / "deep.py").write_text("def f():\n    return 8\n")
    assert load_hook("hook_pack.deep:f")() == 8


def test_a_function_may_import_its_neighbours_when_it_runs(here):
    (here / "hook_late.py").write_text("def f():\n    import hook_neighbour as n\n    return n.x\n")
    (here / "hook_neighbour.py").write_text("x = 5\n")
    assert load_hook("hook_late:f")() == 5


def test_the_current_folder_hides_nothing_afterwards(here):
    (here / "hook_path.py").write_text("def f():\n    pass\n")
    before = list(sys.path)
    load_hook("hook_path:f")
    assert sys.path[: len(before)] == before


@pytest.mark.parametrize("spec", ["module", "module:", ":function", ""])
def test_a_text_without_both_names_is_refused(spec):
    with pytest.raises(ConfigError, match="is not module:function"):
        load_hook(spec)


@pytest.mark.parametrize("spec", ["hook_absent:f", "hook_absent.deep:f", "math.deep:f"])
def test_a_missing_module_is_named(spec, here):
    with pytest.raises(ConfigError, match=r"no module '(hook_absent|math\.deep)"):
        load_hook(spec)


def test_a_missing_function_is_named():
    with pytest.raises(ConfigError, match=r"module 'math'.* has no function 'nosuch'"):
        load_hook("math:nosuch")


def test_a_value_is_no_function():
    with pytest.raises(ConfigError, match="of type float, not a function"):
        load_hook("math:pi")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise ValueError('no luck')", r"ValueError: no luck \(hook_bad.py, line 2\)"),
        ("import nosuch_dependency", "ModuleNotFoundError: No module named 'nosuch_dependency'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_module_that_fails_on_import_is_reported_in_one_sentence(text, words, here):
    (here / "hook_bad.py").write_text(text)
    with pytest.raises(ConfigError, match=rf"'hook_bad' fails on import: {words}") as found:
        load_hook("hook_bad:f")
    assert "\n" not in str(found.value)


def test_parameters_tell_what_a_caller_has_to_give():
    def f(a, b=1, *rest, c, **more): ...

    assert parameters(f) == {"a": True, "b": False, "c": True}


def test_a_failure_is_placed_in_the_users_own_code(here):
    (here / "hook_place.py").write_text("import numpy as np\n\ndef f():\n    np.stack([])\n")
    with pytest.raises(ValueError, match="need at least one array") as found:
        load_hook("hook_place:f")()
    assert "(hook_place.py, line 4)" in failure(found.value)


def test_a_failure_without_text_is_named_by_its_type():
    assert failure(KeyError()) == "KeyError"
