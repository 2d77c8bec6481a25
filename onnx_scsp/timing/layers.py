"""How long the layers of one model take, as plain records.

`LayerTimes` comes from the runtime's profile of the model itself. A `DeviceTable` comes from a
file: times of single layers on a device that is not here,

    kind,in,out,kernel,stride,spatial,ms
    dense,64,128,3,1,28,0.412

with `kind` as in machine tables (without `joined`), `in` and `out` the channels of the whole layer,
`spatial` the height (or the root of height x width) of its output, 1 and rows for matmul; stride
may be left out. A layer that is not in the table takes, for each MAC, what the rows nearest to it
take: rates are weighted by 1 / d^4, d the distance over the binary logarithms of in, out, kernel,
stride and spatial; a row that matches exactly stands for itself.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_scsp.errors import ConfigError
from onnx_scsp.timing.table import KINDS
from onnx_scsp.types import FloatArray

_COLUMNS = ("kind", "in", "out", "kernel", "stride", "spatial", "ms")
_LAYER_KINDS = tuple(kind for kind in KINDS if kind != "joined")
_MOST_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Where the time of one run goes.

    Attributes:
        ms: Node name -> milliseconds.
        rest_ms: What no node of the file answers for: layout changes, overhead.
        threads: Intra-op threads.
        provider: Execution provider.
    """

    ms: Mapping[str, float]
    rest_ms: float
    threads: int
    provider: str


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer.

    Attributes:
        kind: One of `KINDS`.
        fan: Channels that it reads.
        width: Channels that it makes.
        kernel: Height of its kernel.
        stride: Its stride.
        spatial: Root of its output's height x width.
        groups: Groups of a convolution, else 1.
    """

    kind: str
    fan: int
    width: int
    kernel: float
    stride: float
    spatial: float
    groups: int = 1

    @property
    def macs(self) -> float:
        """Multiply-accumulates."""
        return self.fan * self.width * (self.kernel * self.spatial) ** 2 / self.groups


class DeviceTable:
    """Times of single layers on one device.

    Attributes:
        name: Where it comes from.
        sha256: Hash of its text.
        kinds: Kinds that have rows.
    """

    def __init__(
        self, name: str, sha256: str, rows: Mapping[str, list[tuple[LayerShape, float]]]
    ) -> None:
        self.name, self.sha256 = name, sha256
        self.kinds = frozenset(rows)
        self._places = {
            kind: np.array([_place(shape) for shape, _ in entries])
            for kind, entries in rows.items()
        }
        self._rates = {
            kind: np.array([ms / shape.macs for shape, ms in entries])
            for kind, entries in rows.items()
        }

    def ms(self, shape: LayerShape) -> float:
        """Estimated milliseconds of a layer.

        Raises:
            ConfigError: The table has no row of this kind.
        """
        kind = "pointwise" if shape.kind == "joined" else shape.kind
        if kind not in self.kinds:
            raise ConfigError(
                f"{self.name} has no row of kind {kind}, which the model has a layer of; add some"
            )
        distance = ((self._places[kind] - _place(shape)) ** 2).sum(axis=1)
        rates = self._rates[kind]
        nearest = distance.min()
        if nearest < 1e-12:
            return float(rates[distance < 1e-12].mean() * shape.macs)
        weight: FloatArray = (nearest / distance) ** 2
        return float((weight @ rates) / weight.sum() * shape.macs)


def _place(shape: LayerShape) -> FloatArray:
    groups = shape.groups if shape.kind == "depthwise" else 1
    sizes = (shape.fan / groups, shape.width, shape.kernel, shape.stride, shape.spatial)
    return np.asarray(np.log2(np.maximum(np.array(sizes, float), 1e-3)))


def device_table(text: str, name: str) -> DeviceTable:
    """Reads a device table.

    Args:
        text: CSV with a header.
        name: What to call it in messages.

    Returns:
        The table.

    Raises:
        ConfigError: A column is missing, a value is no number, or there is no row.
    """
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    header = [field.strip() for field in reader.fieldnames or ()]
    missing = [column for column in _COLUMNS if column not in header and column != "stride"]
    if missing:
        raise ConfigError(
            f"{name} has no column {', '.join(missing)}; its first line is {','.join(_COLUMNS)}"
        )
    reader.fieldnames = header
    rows: dict[str, list[tuple[LayerShape, float]]] = {}
    for number, row in enumerate(reader, start=2):
        if number > _MOST_ROWS:
            raise ConfigError(f"{name} has more than {_MOST_ROWS:,} rows")
        shape, ms = _row(row, f"{name}, line {number}")
        rows.setdefault(shape.kind, []).append((shape, ms))
    if not rows:
        raise ConfigError(f"{name} has no row below its header")
    return DeviceTable(name, hashlib.sha256(text.encode()).hexdigest(), rows)


def _row(row: Mapping[str, str | None], where: str) -> tuple[LayerShape, float]:
    kind = (row["kind"] or "").strip()
    if kind not in _LAYER_KINDS:
        raise ConfigError(f"{where}: kind '{kind}' is unknown; use {', '.join(_LAYER_KINDS)}")
    fan, width = (_number(row, column, where, whole=True) for column in ("in", "out"))
    kernel, spatial = (_number(row, column, where) for column in ("kernel", "spatial"))
    stride = _number(row, "stride", where) if row.get("stride") else 1.0
    ms = _number(row, "ms", where)
    groups = int(fan) if kind == "depthwise" else 1
    return LayerShape(kind, int(fan), int(width), kernel, stride, spatial, groups), ms


def _number(
    row: Mapping[str, str | None], column: str, where: str, *, whole: bool = False
) -> float:
    text = (row.get(column) or "").strip()
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{where}: {column} '{text}' is no number") from None
    if not math.isfinite(value) or value <= 0 or (whole and value != int(value)):
        wanted = "a positive whole number" if whole else "positive"
        raise ConfigError(f"{where}: {column} {text} is not {wanted}")
    return value
