"""docs/accuracy.md and its drawings, from the records alone."""

from __future__ import annotations

from pathlib import Path

from tools.accuracy.catalog import BASELINE, METHODS, Method, Sources, Task, applies, tasks
from tools.accuracy.driver import Key
from tools.accuracy.plots import draw
from tools.accuracy.prose import AFTER, HEAD
from tools.accuracy.search import TOLERANCE
from tools.accuracy.targets import best_rival, lost, section
from tools.records import Record

_DATA = {"none": "none", "inputs": "inputs", "labels": "inputs, labels"}


def render(records: dict[Key, Record], page: Path, *, split: str) -> None:
    """Writes the page, and a drawing per network beside it.

    Args:
        records: Newest record of every measurement.
        page: The Markdown file.
        split: Which split the page is about.
    """
    chosen = {key: record for key, record in records.items() if key[3] == split}
    everything = tasks(Sources("data", "packages", "fashion", ""))
    allowed = {(t.name, m.name) for t in everything for m in (*METHODS, BASELINE) if applies(m, t)}
    chosen = {key: record for key, record in chosen.items() if key[:2] in allowed}
    networks = [task for task in everything if (task.name, BASELINE.name, 1.0, split) in chosen]
    lines = [HEAD, *_state(chosen, split)]
    lines += section(chosen, [(t.name, t.title, t.metric) for t in networks], split)
    for task in networks:
        lines += _network(chosen, task, split, page)
    lines += [AFTER, *_failures(chosen)]
    page.write_text("\n".join(lines).rstrip() + "\n")


def _state(records: dict[Key, Record], split: str) -> list[str]:
    """Split, code, packages, machine."""
    codes: dict[str, int] = {}
    packages: dict[str, set[str]] = {}
    for key, record in records.items():
        if key[1].startswith("ours"):
            name = f"{record['versions']['rev']} (code {record['versions']['code'][:8]})"
            codes[name] = codes.get(name, 0) + 1
        for name, version in record["versions"].items():
            if name not in ("rev", "code", "pytorchcv"):
                packages.setdefault(name, set()).add(version)
    states = ", ".join(f"{name}: {count} records" for name, count in codes.items())
    listed = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in packages.items())
    machines = sorted({record["machine"] for record in records.values() if "machine" in record})
    limits = sorted({f"{record['limit']:.0f} s" for record in records.values()})
    warning = (
        ["**These are figures of the tune split, to choose by; not the ones to report.**", ""]
        if split == "tune"
        else []
    )
    return [
        *warning,
        f"Split `{split}`. onnx_scsp at {states}. {listed}. {'; '.join(machines)}. "
        f"One thread; at most {' or '.join(limits)} a job.",
        "",
    ]


def _network(records: dict[Key, Record], task: Task, split: str, page: Path) -> list[str]:
    """Drawing, tables and the dense figures of one network."""
    dense = records[task.name, BASELINE.name, 1.0, split]
    lines = [f"## {task.title}", ""]
    if dense["outcome"] != "ok":
        return [*lines, f"The dense network could not be measured: {dense.get('error')}", ""]
    own = [record for key, record in records.items() if key[0] == task.name]
    fine = [r for r in own if r["outcome"] == "ok" and r["method"] in _names()]
    budgets = sorted({record["budget"] for record in own if record["budget"] < 1}, reverse=True)
    figures = ", ".join(
        f"{name} {value:.2f} %" for name, value in dense["metrics"].items() if name != "samples"
    )
    lines += [
        f"`{task.name}`. Dense: {figures} on {dense['metrics']['samples']:.0f} samples, "
        f"{dense['macs'] / 1e6:.1f} M MACs.",
        "",
    ]
    if not fine:
        return lines
    drawing = page.with_name(f"{page.stem}-{task.name}.svg")
    draw(fine, dense["metrics"][task.metric], task.title, task.metric, drawing)
    lines += [f"![{task.metric} over MACs left]({drawing.name})", ""]
    lines += [f"Points of {task.metric} lost; in the rows of onnx_scsp, after the slash, the best"]
    lines += ["rival that was given no more data. A share of MACs stands where it is not the", ""]
    lines[-2:] = [f"{lines[-2]} budget's.", ""]
    heads = " | ".join(f"{budget:g}" for budget in budgets)
    lines += [f"| method | data | {heads} | s | MB |", "|---|---|" + "---:|" * (len(budgets) + 2)]
    lines += [
        _row(records, task, method, budgets, split)
        for method in METHODS
        if any(record["method"] == method.name for record in own)
    ]
    return [*lines, "", *_other_metrics(records, task, budgets, split)]


def _names() -> set[str]:
    return {method.name for method in METHODS}


def _row(
    records: dict[Key, Record], task: Task, method: Method, budgets: list[float], split: str
) -> str:
    cells, seconds, peak = [], 0.0, 0
    for budget in budgets:
        key = (task.name, method.name, budget, split)
        record = records.get(key)
        points = lost(records, key, task.metric)
        if record is None:
            cells.append("-")
            continue
        seconds = max(seconds, record.get("prune_seconds", 0.0))
        peak = max(peak, record.get("peak_mb", 0))
        if points is None:
            cells.append(str(record["outcome"]))
            continue
        cell = f"{points:.1f}"
        if method.tool == "ours":
            rival = best_rival(records, task.name, budget, split, task.metric, method.data)
            cell = f"**{cell}**" + (f" / {rival[0]:.1f}" if rival else "")
        if abs(record["macs_left"] - budget) > TOLERANCE:
            cell += f" ({record['macs_left']:.3f})"
        cells.append(cell)
    title = f"*{method.title}*" if method.ablation else method.title
    return (
        f"| {title} | {_DATA[method.data]} | {' | '.join(cells)} | {seconds:.0f} | {peak or '-'} |"
    )


def _other_metrics(
    records: dict[Key, Record], task: Task, budgets: list[float], split: str
) -> list[str]:
    """One line per further metric, for ours."""
    dense = records[task.name, BASELINE.name, 1.0, split]["metrics"]
    lines = []
    for metric in sorted(set(dense) - {task.metric, "samples"}):
        for method in METHODS:
            found = [
                f"{records[key]['metrics'][metric]:.1f} at {budget:g}"
                for budget in budgets
                if lost(records, key := (task.name, method.name, budget, split), metric) is not None
            ]
            if found and method.tool == "ours":
                lines.append(f"- {method.title}, {metric}: {', '.join(found)}.")
    return [*lines, ""] if lines else []


def _failures(records: dict[Key, Record]) -> list[str]:
    """Every sentence that a failure said, with where it was said."""
    places: dict[tuple[str, str, str], list[float]] = {}
    for (network, method, budget, _), record in records.items():
        if record["outcome"] != "ok" and method in _names():
            words = " ".join(str(record.get("error", "")).split())
            words = words.replace("|", "/").replace("`", "'").replace("<", "&lt;")[:300]
            places.setdefault((network, method, words), []).append(budget)
    lines = ["## What failed", ""]
    for (network, method, words), budgets in sorted(places.items()):
        shown = ", ".join(f"{budget:g}" for budget in sorted(budgets, reverse=True))
        lines.append(f"- {network}, {method}, at {shown}: {words}")
    return lines if places else [*lines, "Nothing."]
