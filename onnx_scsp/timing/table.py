"""What channel counts cost in the runtime: the machine table, a plain record that JSON holds.

A table has one staircase per kind of layer: the time of a small network in which one width w is
varied, `ms`, and of the same network without the layers that w belongs to, `base_ms`. Those layers
then cost as much as

    channels(w) = (ms(w) - base_ms) / (ms(r) - base_ms) r        with the reference width r

channels would where every channel cost the same. All figures are rounded before anything is decided
by them, and the hash is taken of what is written, so that equal tables decide alike everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from onnx_scsp.errors import ConfigError

SCHEMA = 1
KINDS = ("dense", "pointwise", "depthwise", "grouped", "joined", "matmul")
"""Kinds of layers: k x k and 1 x 1 convolution, one filter per channel, several groups (w is then
the width of one group), branches that a Concat joins, Gemm and MatMul."""
REFERENCE = {"grouped": 16}
"""Reference widths other than 64."""
_DIGITS = 3
"""Significant digits of a time."""


@dataclass(frozen=True, slots=True)
class Staircase:
    """Times over one width.

    Attributes:
        widths: Ascending.
        ms: Milliseconds at those.
        base_ms: Milliseconds without the layers that have this width.
        reference: The width whose channels count as one each.
    """

    widths: tuple[int, ...]
    ms: tuple[float, ...]
    base_ms: float
    reference: int = 64

    def channels(self, width: float) -> float:
        """What a width costs, in channels of the reference width.

        Linear between measured widths, and beyond the last at the mean cost per channel of the
        upper half of what was measured.
        """
        if width <= 0:
            return 0.0
        last = self.widths[-1]
        if width > last:
            middle = self.widths[bisect_left(self.widths, last / 2)]
            rise = (self._cost(last) - self._cost(middle)) / (last - middle)
            return self._cost(last) + max(rise, 0.0) * (width - last)
        place = bisect_left(self.widths, width)
        right = self.widths[place]
        left = self.widths[place - 1] if place else 0
        if right in (width, left):
            return self._cost(right)
        share = (width - left) / (right - left)
        return (1 - share) * (self._cost(left) if left else 0.0) + share * self._cost(right)

    def _cost(self, width: int) -> float:
        # what does not show beside the rest of the network is not free
        unit = max(self._above(self.reference), 1e-3) / self.reference
        return max(self._above(width) / unit, 1e-2)

    def _above(self, width: int) -> float:
        return self.ms[bisect_left(self.widths, width)] - self.base_ms


@dataclass(frozen=True, slots=True)
class MachineTable:
    """The staircases of one machine.

    Attributes:
        kinds: Kind -> staircase, every kind of `KINDS`.
        processor: What it was measured on.
        onnxruntime: Version of the runtime.
        threads: Intra-op threads.
        provider: Execution provider.
        scatter: How far the median of a run lay above what it takes undisturbed, as a share, at
            the kind where that was most; much on a busy machine.
        origin: Where the table comes from: `shipped`, `measured` or a file; no part of the hash.
    """

    kinds: Mapping[str, Staircase]
    processor: str
    onnxruntime: str
    threads: int
    provider: str
    scatter: float = 0.0
    origin: str = "measured"

    @property
    def sha256(self) -> str:
        """Hash of everything but the origin."""
        return hashlib.sha256(table_to_json(self).encode()).hexdigest()


def rounded(ms: float) -> float:
    """A time as tables keep it."""
    return float(f"{ms:.{_DIGITS}g}")


def table_to_json(table: MachineTable) -> str:
    """The table as JSON text, the same text for the same table."""
    head = {
        "schema": SCHEMA,
        "processor": table.processor,
        "onnxruntime": table.onnxruntime,
        "threads": table.threads,
        "provider": table.provider,
        "scatter": table.scatter,
    }
    kinds = ",\n  ".join(
        f'"{name}": '
        + json.dumps(
            {
                "reference": stairs.reference,
                "base_ms": stairs.base_ms,
                "widths": list(stairs.widths),
                "ms": list(stairs.ms),
            }
        )
        for name, stairs in sorted(table.kinds.items())
    )
    return json.dumps(head, indent=1)[:-2] + ',\n "kinds": {\n  ' + kinds + "\n }\n}\n"


def table_from_json(text: str, name: str, origin: str = "measured") -> MachineTable:
    """Reads a table.

    Args:
        text: JSON text.
        name: What to call the table in messages.
        origin: Where it comes from.

    Returns:
        The table.

    Raises:
        ConfigError: The text is no table.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ConfigError(
                f"{name} is no machine table of schema {SCHEMA}; make one with `onnx-scsp profile`"
            )
        kinds = {kind: _staircase(data["kinds"][kind]) for kind in KINDS}
        threads = data["threads"]
        if type(threads) is not int or threads < 1:
            raise ValueError("threads")
        table = MachineTable(
            kinds=kinds,
            processor=str(data["processor"]),
            onnxruntime=str(data["onnxruntime"]),
            threads=threads,
            provider=str(data["provider"]),
            scatter=float(data["scatter"]),
            origin=origin,
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{name} is no valid machine table ({type(error).__name__}: {error}); make one with "
            "`onnx-scsp profile`"
        ) from error
    return table


def _staircase(data: Mapping[str, Any]) -> Staircase:
    widths = tuple(data["widths"])
    ms = tuple(float(value) for value in data["ms"])
    base, reference = float(data["base_ms"]), data["reference"]
    whole = all(type(width) is int and width > 0 for width in (*widths, reference))
    if not whole or any(a >= b for a, b in pairwise(widths)):
        raise ValueError("widths are ascending positive whole numbers")
    if len(ms) != len(widths) or len(widths) < 2 or reference not in widths:
        raise ValueError("a time for every width, the reference among them")
    if not all(math.isfinite(value) and value >= 0 for value in (*ms, base)):
        raise ValueError("times are finite")
    return Staircase(widths, tuple(rounded(value) for value in ms), rounded(base), reference)
