"""Drawings: held-out accuracy over the epochs, and who dies and comes back in which group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.records import Record
from tools.retraining.catalog import ENTRIES

_OURS = ("#c0392b", "#e67e22", "#8e44ad", "#d35480", "#b7950b", "#784212", "#1e8449")
_OTHERS = ("#2471a3", "#148f77", "#34495e", "#85c1e9", "#7f8c8d", "#a569bd", "#5d6d7e")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "retrain", "svg.fonttype": "none"})
    from matplotlib import pyplot

    return pyplot


def _write(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    _pyplot().close(figure)
    clean = "\n".join(line.rstrip() for line in path.read_text().splitlines())
    path.write_text(clean + "\n")


def draw_curves(records: list[Record], title: str, path: Path) -> None:
    """Held-out top-1 of the network as cut, one line per method (mean over seeds).

    Args:
        records: Runs of one network and budget.
        title: Above the drawing.
        path: The .svg to write.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8.5, 4.4))
    ours, others = iter(_OURS), iter(_OTHERS)
    for entry in ENTRIES:
        runs = [r["epochs"] for r in records if r["method"] == entry.name and r.get("epochs")]
        if not runs:
            continue
        mine = entry.name.startswith("scsp")
        colour = next(ours if mine else others, "#999999")
        points = []
        for epochs in zip(*runs, strict=False):  # runs that stop early are shorter
            values = [epoch["metric_cut"] for epoch in epochs]
            if all(value is not None for value in values):
                mean = 100 * sum(values) / len(values)
                points.append((epochs[0]["epoch"], mean))
        style = "o-" if mine else "o--"
        axes.plot(*zip(*points, strict=True), style, color=colour, label=entry.title, ms=3,
                  lw=2 if mine else 1.2)  # fmt: skip
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("top-1 of the cut network, held-out images, %")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _write(figure, path)


def draw_life(record: Record, title: str, path: Path) -> None:
    """One panel per group: a row per channel, a column per epoch, dark where it stays.

    Args:
        record: A run whose epochs say who was kept.
        title: Above the drawing.
        path: The .svg to write.
    """
    pyplot = _pyplot()
    epochs = [epoch["kept"] for epoch in record["epochs"] if epoch.get("kept")]
    groups = [name for name in epochs[0] if len(set(epochs[0][name])) > 1] or list(epochs[0])
    columns = min(len(groups), 8)
    rows = -(-len(groups) // columns)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=(1.15 * columns, 2.1 * rows), squeeze=False
    )
    for place, panel in enumerate(panels.flat):
        panel.axis("off")
        if place >= len(groups):
            continue
        name = groups[place]
        first = [int(bit) for bit in epochs[0][name]]
        order = sorted(range(len(first)), key=lambda unit: -first[unit])
        grid = [[_state(epochs, name, unit, at) for at in range(len(epochs))] for unit in order]
        # viewers smooth small images; larger ones stay sharp
        sharp = np.kron(np.array(grid), np.ones((8, 40), int))
        panel.imshow(sharp, aspect="auto", cmap=_colours(), vmin=0, vmax=3, interpolation="none")
        panel.set_title(f"{name} ({len(first)})", fontsize=7)
    figure.suptitle(title, fontsize=9)
    _write(figure, path)


def _state(epochs: list[dict[str, str]], name: str, unit: int, at: int) -> int:
    """0 out, 1 stays, 2 just died, 3 just came back."""
    now = epochs[at][name][unit] == "1"
    before = now if at == 0 else epochs[at - 1][name][unit] == "1"
    return {(True, True): 1, (False, False): 0, (True, False): 2, (False, True): 3}[before, now]


def _colours() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(["#e8e8e8", "#34495e", "#c0392b", "#27ae60"])


def changes(record: Record) -> tuple[int, int]:
    """How many channels died and came back over the epochs of a run."""
    epochs = [epoch["kept"] for epoch in record["epochs"] if epoch.get("kept")]
    died = back = 0
    for at in range(1, len(epochs)):
        for name, bits in epochs[at].items():
            died += sum(
                a == "1" and b == "0" for a, b in zip(epochs[at - 1][name], bits, strict=True)
            )
            back += sum(
                a == "0" and b == "1" for a, b in zip(epochs[at - 1][name], bits, strict=True)
            )
    return died, back
