"""`bench` as a drawing: ratios with their intervals, and where the time goes. Needs matplotlib."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import Any

from onnx_scsp.errors import MissingExtraError
from onnx_scsp.measure.records import BenchReport, Share
from onnx_scsp.report.bench import shapes_text

_BARS_SHOWN = 8
_A, _B, _NOISE = "#7f8c8d", "#c0392b", "#d5d8dc"


def require_matplotlib(salt: str = "onnx_scsp") -> Any:
    """The library's pyplot, set up so that the same drawing gives the same bytes.

    Args:
        salt: What the names inside the drawing are made from.

    Returns:
        The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        raise MissingExtraError(
            "drawing needs matplotlib; install it with: pip install 'onnx-scsp[plot]'"
        ) from None
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": salt, "svg.fonttype": "none"})
    return importlib.import_module("matplotlib.pyplot")


def svg_text(figure: Any) -> str:
    """A figure as the text of an .svg file, without date and trailing blanks."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def bench_plot(reports: Sequence[BenchReport], a: str, b: str) -> str:
    """Draws a sweep.

    Args:
        reports: Its points, at least one.
        a: Name of the first model.
        b: Name of the second.

    Returns:
        The text of an .svg file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_matplotlib()
    profile = reports[0].profile
    rows = 1 if profile is None else 2
    heights = [1.2 + 0.35 * len(reports), 0.9 + 0.35 * _BARS_SHOWN][:rows]
    figure, axes = pyplot.subplots(
        rows,
        1,
        figsize=(8.5, 0.8 + sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    try:
        _ratios(axes[0, 0], reports)
        if profile is not None:
            where = f"{reports[0].threads} thread(s), {shapes_text(reports[0])}"
            _bars(axes[1, 0], profile.operators[:_BARS_SHOWN], where)
        figure.suptitle(f"A = {_plain(a)}\nB = {_plain(b)}", fontsize=9)
        return svg_text(figure)
    finally:
        pyplot.close(figure)


def _plain(text: str) -> str:
    """The library reads what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def _ratios(axes: Any, reports: Sequence[BenchReport]) -> None:
    for place, report in enumerate(reports):
        low, high = report.interval
        floor = report.noise_floor
        axes.plot([1 - floor, 1 + floor], [place, place], color=_NOISE, linewidth=9, zorder=1)
        axes.plot([low, high], [place, place], color=_B, linewidth=2, zorder=2)
        axes.plot([report.ratio], [place], "o", color=_B, markersize=5, zorder=3)
    axes.axvline(1.0, color=_A, linewidth=0.8)
    labels = [f"{shapes_text(report)}, {report.threads} thr." for report in reports]
    axes.set_yticks(range(len(reports)), [_plain(label) for label in labels], fontsize=8)
    axes.set_ylim(len(reports) - 0.5, -0.5)
    axes.set_xlabel(f"latency B / A, {reports[0].confidence:.0%} interval; grey: A / A")
    axes.grid(axis="x", alpha=0.3)


def _bars(axes: Any, rows: Sequence[Share], where: str) -> None:
    places = range(len(rows))
    axes.barh([p - 0.2 for p in places], [row.a_ms for row in rows], 0.4, color=_A, label="A")
    axes.barh([p + 0.2 for p in places], [row.b_ms for row in rows], 0.4, color=_B, label="B")
    axes.set_yticks(places, [_plain(row.name) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"ms by operator, profiled at {_plain(where)}")
    axes.legend(frameon=False)
