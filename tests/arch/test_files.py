"""What a file of the package may look like."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from arch.imports import PACKAGE

FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400
VAGUE_NAMES = {"utils.py", "util.py", "helpers.py", "helper.py", "base.py", "common.py", "misc.py"}
_ABSOLUTE = re.compile(r"(?<![\w.~/<])/(?:home|root|Users|work|tmp|mnt|opt|var|srv)/|\b[A-Z]:\\\\")


def swallows(source: str) -> list[int]:
    """Lines of handlers that catch everything and say nothing."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and _is_silent(node)
    ]


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    )


def _is_silent(handler: ast.ExceptHandler) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )


def machine_paths(text: str) -> list[str]:
    """Lines that spell a path of one particular machine."""
    return [line for line in text.splitlines() if _ABSOLUTE.search(line)]


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_no_file_is_longer_than_400_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [relative(file) for file in FILES if file.name in VAGUE_NAMES] == []


def test_no_handler_swallows_every_error() -> None:
    found = {relative(file): swallows(file.read_text(encoding="utf-8")) for file in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "body",
    ["except: pass", "except Exception: pass", "except BaseException:\n    ...",
     "except Exception:\n    'why not'"],
)  # fmt: skip
def test_the_search_for_swallowed_errors_finds_them(body: str) -> None:
    assert swallows(f"try:\n    f()\n{body}") == [3]


def test_the_search_for_swallowed_errors_spares_handlers_that_act() -> None:
    assert swallows("try:\n    f()\nexcept Exception as e:\n    raise X from e") == []


def test_every_module_says_what_it_is_for() -> None:
    bare = [f for f in FILES if not ast.get_docstring(ast.parse(f.read_text(encoding="utf-8")))]
    assert [relative(file) for file in bare] == []


def test_no_file_of_the_package_names_a_path_of_some_machine() -> None:
    files = [f for f in PACKAGE.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    found = {relative(f): machine_paths(f.read_text(encoding="utf-8", errors="replace"))
             for f in files}  # fmt: skip
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("path", ["/home/me/x", "'/work/main'", "C:\\\\Users", "open(/tmp/y)"])
def test_the_search_for_machine_paths_finds_them(path: str) -> None:
    assert machine_paths(f"x = {path}") != []


@pytest.mark.parametrize("text", ["a/work/b", "https://example.org/home/x", "</tmp/>", "~/tmp/x"])
def test_the_search_for_machine_paths_spares_others(text: str) -> None:
    assert machine_paths(text) == []
