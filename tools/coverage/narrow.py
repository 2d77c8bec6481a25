"""The page's section on widths: which tool left layers with fewer filters than it was asked to."""

from __future__ import annotations

from collections.abc import Mapping

from tools.coverage.driver import Key
from tools.records import Record

_TITLES = {"ours": "onnx_scsp", "tp": "Torch-Pruning", "onnxsim": "onnxsim"}


def excess(records: Mapping[Key, Record], name: str) -> str:
    """Why a rival left fewer MACs of a network, from what was measured; '' where nothing says it.

    Args:
        records: Newest record of every measurement.
        name: The network.

    Returns:
        A sentence without its full stop.
    """
    said = []
    looser = records.get((name, "ts", "approximate"), {})
    if looser.get("outcome") == "ok":
        said.append(f"with `--approximate`, which cuts the same, {looser['macs_left']:.3f}")
    equal, theirs = (records.get((name, "ts", tool), {}) for tool in ("equal", "tp"))
    if theirs.get("overcut"):
        said.append(
            f"Torch-Pruning left {theirs['overcut']} of {theirs['matched']} layers with fewer "
            f"filters than half and {theirs['uncut']} whole, {theirs['channels_left']:.3f} of all"
        )
    if equal.get("outcome") == "ok":
        said.append(
            f"asked for that share in every layer, onnx_scsp leaves {equal['macs_left']:.3f}"
        )
    held = records.get((name, "ts", "ours"), {}).get("causes", [])
    if not said and held:
        share, cause, node = held[0]
        said.append(f"{share:.3f} is held here by {cause} (`{node}`)")
    return "; ".join(said)


def width_lines(records: Mapping[Key, Record]) -> list[str]:
    """Layers below the half that was asked for, tool by tool.

    Args:
        records: Newest record of every measurement.

    Returns:
        Lines of Markdown.
    """
    known = {
        tool: [r for key, r in records.items() if key[1:] == ("ts", tool) and "overcut" in r]
        for tool in _TITLES
    }
    lines = ["## Fewer filters than asked for", ""]
    lines += ["A layer that keeps fewer than half of its filters gave up more than was asked. Of"]
    lines += ["layers that both files name alike, in networks whose widths were measured:", ""]
    lines += ["| | networks | layers | below half | in networks | whole | narrowest |"]
    lines += ["|---|---:|---:|---:|---:|---:|---|"]
    for tool, found in known.items():
        if not found:
            lines.append(f"| {_TITLES[tool]} | 0 | | | | | |")
            continue
        layers, below, whole = (sum(r[k] for r in found) for k in ("matched", "overcut", "uncut"))
        least = min(found, key=lambda r: float(r["least"][0]))
        share = f"{least['least'][0]:.3f} of `{least['least'][1]}` in {least['network']}"
        many = sum(r["overcut"] > 0 for r in found)
        lines.append(
            f"| {_TITLES[tool]} | {len(found)} | {layers} | {below} | {many} | {whole} | {share} |"
        )
    lines.append("")
    worst = sorted((r for r in known["tp"] if r["overcut"]), key=lambda r: -int(r["overcut"]))
    if worst:
        named = (f"{r['network']} ({r['overcut']} of {r['matched']})" for r in worst[:8])
        lines += [f"Most of them, by Torch-Pruning: {', '.join(named)}.", ""]
    return lines
