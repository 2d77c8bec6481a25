"""Functions that a user names as `module:function`.

Only what the caller names on purpose is imported; nothing in a model or a plan file ever is.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from onnx_scsp.errors import ConfigError


def load_hook(spec: str) -> Callable[..., Any]:
    """Imports a function from the current folder or from the import path.

    The current folder comes first while the module is imported, and stays at the end of `sys.path`
    afterwards, so that the function may import its neighbours when it runs but hides nothing.

    Args:
        spec: `module:function`.

    Returns:
        The function.

    Raises:
        ConfigError: The text is spelled otherwise, the module is missing or fails on import, or it
            has no such function.
    """
    module_name, colon, function_name = spec.partition(":")
    if not colon or not module_name or not function_name:
        raise ConfigError(f"'{spec}' is not module:function, such as my_data:batches")
    module = _import(module_name)
    if not hasattr(module, function_name):
        file = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise ConfigError(f"module '{module_name}'{file} has no function '{function_name}'")
    function = getattr(module, function_name)
    if not callable(function):
        raise ConfigError(f"'{spec}' is of type {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """Parameter name -> whether a caller has to give it; empty where Python cannot tell."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default is p.empty for p in found if p.kind not in variadic}


def failure(error: BaseException) -> str:
    """One line on an exception of the user's code: its type, its text and where it was raised."""
    text = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _is_library(file: str) -> bool:
    """Whether a frame is of an installed package, of Python itself or of this package."""
    installed = "site-packages" in file or file.startswith("<frozen")
    return installed or Path(file).is_relative_to(Path(__file__).parents[1])


def _import(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    here = str(Path.cwd())
    importlib.invalidate_caches()
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"no module '{name}' in {here} or on the Python path; "
                "give its name without .py, and its folder in PYTHONPATH"
            ) from error
        raise ConfigError(f"module '{name}' fails on import: {failure(error)}") from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise ConfigError(f"module '{name}' fails on import: {failure(error)}") from error
    finally:
        if here in sys.path:  # the module may have changed the path itself
            sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)
