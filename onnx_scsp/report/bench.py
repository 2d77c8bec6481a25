"""What `bench` shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onnx_scsp.types import BenchReport


def bench_json(report: BenchReport) -> dict[str, Any]:
    """The report as plain data."""
    data = asdict(report)
    data["a"]["iqr_ms"] = report.a.iqr_ms
    data["b"]["iqr_ms"] = report.b.iqr_ms
    data["input_shapes"] = {name: list(shape) for name, shape in report.input_shapes.items()}
    return data


def bench_tables(report: BenchReport, a: str, b: str) -> Iterable[Table | Text]:
    """Two rows, the ratio, the machine."""
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in report.input_shapes.items())
    table = Table(
        title=f"Latency, {report.threads} thread(s), {escape(shapes)}", title_justify="left"
    )
    table.add_column("model", overflow="fold")
    for column in ("median ms", "IQR ms", "runs"):
        table.add_column(column, justify="right")
    for name, timing in ((a, report.a), (b, report.b)):
        table.add_row(
            escape(name), f"{timing.median_ms:.3f}", f"{timing.iqr_ms:.3f}", str(timing.runs)
        )
    yield table
    machine = ", ".join(f"{key} {value}" for key, value in report.machine.items())
    yield Text(
        f"ratio {report.ratio:.3f}, noise floor {report.noise_floor:.3f} (A against itself); "
        + machine
    )
