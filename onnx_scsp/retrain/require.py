"""Says in one sentence what is missing where the `retrain` extra is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from onnx_scsp.errors import MissingExtraError

PACKAGES = {"torch": "torch", "lightning_fabric": "lightning-fabric", "safetensors": "safetensors"}
"""Module -> the package that brings it."""


def require_extra() -> None:
    """Checks that PyTorch and the trainer's libraries can be imported.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    missing = [package for module, package in PACKAGES.items() if not _is_there(module)]
    if missing:
        raise MissingExtraError(
            f"retraining needs {' and '.join(missing)}; "
            "install what it needs with pip install 'onnx-scsp[retrain]'"
        )


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None  # None is how an import is blocked
    return find_spec(module) is not None
