"""One drawing per network: accuracy over MACs left, one line per method."""

from __future__ import annotations

from pathlib import Path

from onnx_scsp.report.plot import require_matplotlib, svg_text
from tools.accuracy.catalog import METHODS, Method
from tools.records import Record

# what stands out: ours, then the strongest of the others; the rest is grey
_OURS = ("#c0392b", "#e67e22", "#8e44ad", "#d35480", "#b7950b", "#784212")
_RIVALS = ("#2471a3", "#148f77", "#34495e", "#85c1e9")
_SHOWN_RIVALS = 4


def draw(records: list[Record], dense: float, title: str, metric: str, path: Path) -> None:
    """Draws one network.

    Args:
        records: Its pruned records that are ok.
        dense: The metric of the dense network.
        title: Name of the network.
        metric: Name of the metric.
        path: The .svg to write.
    """
    pyplot = require_matplotlib("accuracy")
    lines: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        point = (record["macs_left"], record["metrics"][metric])
        lines.setdefault(record["method"], [(1.0, dense)]).append(point)
    mean = {name: sum(y for _, y in points) / len(points) for name, points in lines.items()}
    tools = {method.name: method for method in METHODS}
    ours = [name for name in lines if tools[name].tool == "ours" and not tools[name].ablation]
    rivals = [name for name in lines if tools[name].tool != "ours"]
    rivals.sort(key=lambda name: -mean[name])
    figure, axes = pyplot.subplots(figsize=(8.5, 4.4))
    for name in reversed(rivals[_SHOWN_RIVALS:]):
        axes.plot(*zip(*sorted(lines[name]), strict=True), color="#cccccc", linewidth=0.8)
    for name, colour in zip(rivals, _RIVALS, strict=False):
        label = _label(tools[name])
        axes.plot(*zip(*sorted(lines[name]), strict=True), "o--", color=colour, label=label, ms=3)
    for name, colour in zip(ours, _OURS, strict=False):
        label = _label(tools[name])
        axes.plot(
            *zip(*sorted(lines[name]), strict=True), "o-", color=colour, label=label, lw=2, ms=4
        )
    if len(rivals) > _SHOWN_RIVALS:
        axes.plot([], [], color="#cccccc", label=f"{len(rivals) - _SHOWN_RIVALS} other rivals")
    axes.invert_xaxis()
    axes.set_xlabel("MACs left")
    axes.set_ylabel(f"{metric}, %")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    path.write_text(svg_text(figure))
    pyplot.close(figure)


def _label(method: Method) -> str:
    """Title, and what it was given if anything."""
    return method.title if method.data == "none" else f"{method.title} [{method.data}]"
