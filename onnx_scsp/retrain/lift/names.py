"""Names of ONNX tensors as names of torch parameters, and back.

torch forbids dots in the name of a parameter, and names that a module uses itself. A name is
therefore percent-encoded where it has to be: `layer1.0.weight` becomes `layer1%2E0%2Eweight`, and
`decode` undoes it. `Lifted.state_dict()` puts `store.` in front.
"""

from __future__ import annotations

from urllib.parse import unquote

from torch import nn


def encode(name: str) -> str:
    """An ONNX name as the name of a torch parameter."""
    safe = name.replace("%", "%25").replace(".", "%2E")
    if hasattr(_EMPTY, safe):
        return "".join(f"%{byte:02X}" for byte in name.encode("utf-8"))
    return safe


def decode(key: str) -> str:
    """The ONNX name behind the name of a torch parameter."""
    return unquote(key)


_EMPTY = nn.Module()
