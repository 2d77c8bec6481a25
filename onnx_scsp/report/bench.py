"""What `bench` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onnx_scsp.measure.records import BenchReport, Profile, Share

_LAYERS_SHOWN = 10
_SHARED = ("machine", "provider", "seed", "confidence")
"""What all points of a sweep have in common; JSON says it once."""


def bench_json(reports: Sequence[BenchReport], a: str, b: str) -> dict[str, Any]:
    """A sweep as plain data.

    Args:
        reports: Its points, at least one.
        a: Name of the first model.
        b: Name of the second.

    Returns:
        What is ready for JSON.
    """
    shared = asdict(reports[0])
    points = [_point(report) for report in reports]
    return {"a": a, "b": b, **{key: shared[key] for key in _SHARED}, "points": points}


def _point(report: BenchReport) -> dict[str, Any]:
    data = {key: value for key, value in asdict(report).items() if key not in _SHARED}
    data["a"]["iqr_ms"] = report.a.iqr_ms
    data["b"]["iqr_ms"] = report.b.iqr_ms
    data["interval"] = list(report.interval)
    data["input_shapes"] = {name: list(shape) for name, shape in report.input_shapes.items()}
    return {**data, "verdict": report.verdict}


def shapes_text(report: BenchReport) -> str:
    """`image 1x3x224x224`, one input after the other."""
    shapes = report.input_shapes.items()
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes)


def bench_tables(
    reports: Sequence[BenchReport], a: str, b: str, layers: int = _LAYERS_SHOWN
) -> Iterable[Table | Text]:
    """A row per point; memory; where the time of the first point goes; the machine.

    Args:
        reports: The points, at least one.
        a: Name of the first model.
        b: Name of the second.
        layers: How many layers to show.

    Yields:
        Tables and a line of text.
    """
    first = reports[0]
    yield Text(f"A = {a}\nB = {b}")
    yield _latency(reports)
    if any(report.memory is not None for report in reports):
        yield _memory(reports)
    if first.profile is not None:
        yield from _profile(first.profile, f"{_threads(first)}, {shapes_text(first)}", layers)
    machine = ", ".join(f"{key} {value}" for key, value in first.machine.items())
    unsettled = [report for report in reports if report.steady is False]
    if unsettled:
        yield Text(
            f"at {len(unsettled)} of {len(reports)} points the times had not settled after "
            f"{max(report.warm_up for report in unsettled)} rounds of warm-up"
        )
    yield Text(f"provider {first.provider}; {machine}")


def _threads(report: BenchReport) -> str:
    return f"{report.threads} thread{'s' if report.threads > 1 else ''}"


def _latency(reports: Sequence[BenchReport]) -> Table:
    rounds = " or ".join(sorted({str(report.a.runs) for report in reports}))
    table = Table(title=f"Latency, median of {rounds} interleaved rounds", title_justify="left")
    table.add_column("input", overflow="fold")
    interval = f"{reports[0].confidence:.0%} interval"
    for column in ("threads", "A ms", "IQR", "B ms", "IQR", "B / A", interval, "A / A"):
        table.add_column(column, justify="right")
    table.add_column("B is")
    for report in reports:
        low, high = report.interval
        table.add_row(
            escape(shapes_text(report)),
            str(report.threads),
            f"{report.a.median_ms:.3f}",
            f"{report.a.iqr_ms:.3f}",
            f"{report.b.median_ms:.3f}",
            f"{report.b.iqr_ms:.3f}",
            f"{report.ratio:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"±{report.noise_floor:.3f}",
            report.verdict,
        )
    return table


def _memory(reports: Sequence[BenchReport]) -> Table:
    table = Table(title="Peak memory of loading and running", title_justify="left")
    table.add_column("input", overflow="fold")
    for column in ("threads", "A MB", "B MB", "B / A"):
        table.add_column(column, justify="right")
    for report in reports:
        if report.memory is None:
            continue
        a, b = report.memory.a_bytes, report.memory.b_bytes
        row = [f"{a / 1e6:.1f}", f"{b / 1e6:.1f}", f"{b / a:.3f}" if a else ""]
        table.add_row(escape(shapes_text(report)), str(report.threads), *row)
    return table


def _profile(profile: Profile, where: str, layers: int) -> Iterable[Table]:
    whole = [sum(getattr(row, side) for row in profile.operators) for side in ("a_ms", "b_ms")]
    yield _shares(
        profile.operators, f"Where the time goes, by operator, profiled at {where}", whole
    )
    yield _shares(profile.layers[:layers], f"The {layers} longest layers", whole)


def _shares(rows: Sequence[Share], title: str, whole: Sequence[float]) -> Table:
    named = any(row.name != row.op for row in rows)
    table = Table(title=escape(title), title_justify="left")
    table.add_column("layer" if named else "operator", overflow="fold")
    if named:
        table.add_column("runs as")
    for column in ("A ms", "share", "calls", "B ms", "share", "calls", "B / A"):
        table.add_column(column, justify="right")
    for row in rows:
        names = [escape(row.name), row.op] if named else [row.name]
        cells = []
        for spent_ms, count, total in (
            (row.a_ms, row.a_count, whole[0]),
            (row.b_ms, row.b_count, whole[1]),
        ):
            share = f"{spent_ms / total:.1%}" if total else ""
            cells += [f"{spent_ms:.3f}", share, str(count)] if count else ["", "", ""]
        ratio = f"{row.b_ms / row.a_ms:.2f}" if row.a_ms and row.b_count else ""
        table.add_row(*names, *cells, ratio)
    return table
