"""A user's own metric: any function that gets the model and returns figures."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any

from onnx_scsp.calibration.hooks import failure, load_hook, parameters
from onnx_scsp.errors import ConfigError
from onnx_scsp.evaluate.predictor import Predictor
from onnx_scsp.graph.model import Model


def evaluate(
    model: Model | str | os.PathLike[str], hook: str | Callable[..., Any], *, threads: int = 1
) -> dict[str, float]:
    """Measures a model with a user's function.

    Args:
        model: A loaded model or its file.
        hook: `module:function`, or the function. It is called with a `Predictor`, or with the
            onnxruntime session where its parameter is named `session`, and returns a number or a
            dictionary of numbers.
        threads: Threads of the runtime.

    Returns:
        Metric name -> figure; a single number goes by the function's name.

    Raises:
        ConfigError: The function cannot be found or called, fails, or returns something else.
        ModelError: The model cannot be read.
    """
    name = hook if isinstance(hook, str) else getattr(hook, "__name__", "metric")
    function = load_hook(hook) if isinstance(hook, str) else hook
    by_session = _wants_session(function, name)
    predictor = Predictor(model, threads=threads)
    try:
        found = function(predictor.session if by_session else predictor)
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(f"{name} fails: {failure(error)}") from error
    return _figures(found, name)


def _wants_session(function: Callable[..., Any], name: str) -> bool:
    found = list(parameters(function).items())
    needed = [parameter for parameter, is_needed in found if is_needed]
    if len(needed) > 1:
        raise ConfigError(
            f"{name} wants {len(needed)} arguments ({', '.join(needed)}); "
            "it is given one, the predictor or the session"
        )
    return bool(found) and (needed or [found[0][0]])[0] == "session"


def _figures(found: object, name: str) -> dict[str, float]:
    if not isinstance(found, Mapping):
        found = {name.rpartition(":")[2]: found}
    if not found:
        raise ConfigError(f"{name} returns no figures")
    return {str(key): _figure(value, str(key), name) for key, value in found.items()}


def _figure(value: object, key: str, name: str) -> float:
    scalar = value.item() if getattr(value, "shape", None) == () else value  # type: ignore[attr-defined]
    if not isinstance(scalar, numbers.Real) or isinstance(scalar, bool):
        raise ConfigError(
            f"{name} returns a {type(value).__name__} as '{key}'; "
            "return a number or a dictionary of numbers"
        )
    if not math.isfinite(scalar):
        raise ConfigError(f"{name} returns {float(scalar)} as '{key}', which is no finite number")
    return float(scalar)
