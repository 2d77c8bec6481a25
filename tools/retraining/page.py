"""docs/retrain.md from the records; every figure on it comes from there."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from tools.records import Record
from tools.retraining.catalog import ENTRIES, TITLES
from tools.retraining.driver import Key
from tools.retraining.plots import changes, draw_curves, draw_life

Parts = dict[tuple[int, int], tuple[str, dict[str, str]]]

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def render(records: dict[Key, Record], page: Path) -> None:
    """Replaces the figures of the page that there are records of; everything else stays.

    Args:
        records: All records; a part of the page for each number of images and epochs, in that a
            section for each network and budget.
        page: The page, with the two marks that the figures stand between.
    """
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    figures, _, tail = rest.partition(END)
    parts = _read(figures)
    runs = [record for record in records.values() if record["method"] != "dense"]
    for images, epochs in {(r["images"], r["epoch_count"]) for r in runs}:
        mine = [r for r in runs if (r["images"], r["epoch_count"]) == (images, epochs)]
        made: dict[str, str] = {}
        for network, budget in sorted({(r["network"], r["budget"]) for r in mine}):
            dense = records.get(("dense", network, "dense", 1.0, 0, 0, 0))
            found = [r for r in mine if (r["network"], r["budget"]) == (network, budget)]
            name = f"retrain-{images // 1000}k-{epochs}-{network}-{round(100 * budget)}"
            section = _section(name, found, dense, page.parent)
            made[section.split("\n")[0]] = section
        old, sections = parts.get((images, epochs), ("", {}))
        intro = _intro(images, epochs, mine) if set(sections) <= set(made) else old
        parts[images, epochs] = (intro, sections | made)
    ordered = [parts[key] for key in sorted(parts, reverse=True)]
    body = "\n\n".join(part for intro, found in ordered for part in (intro, *found.values()))
    page.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


def _read(body: str) -> Parts:
    """The parts of a page as it is: by images and epochs the introduction, sections by heading."""
    parts: Parts = {}
    for part in body.split("\n### ")[1:]:
        intro, *sections = part.strip().split("\n#### ")
        images, epochs = (int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", intro)[:2])
        found = {f"#### {text.splitlines()[0]}": f"#### {text.strip()}" for text in sections}
        parts[images, epochs] = (f"### {intro.strip()}", found)
    return parts


def _intro(images: int, epochs: int, runs: list[Record]) -> str:
    seeds = len({r["seed"] for r in runs})
    spread = "One seed." if seeds == 1 else f"Up to {seeds} seeds: mean ± deviation."
    return (
        f"### {images:,} training images, {epochs} epochs\n\n"
        "A tenth of the images is held out, which is what choices were made on; every method has "
        f"the same epochs. {spread}{_precision(runs)}"
    )


def _precision(runs: list[Record]) -> str:
    mixed = sum(r.get("precision", "32") != "32" for r in runs)
    if not mixed:
        return ""
    return " Trained in bfloat16 (mixed)." if mixed == len(runs) else " Partly trained in bfloat16."


def _section(name: str, found: list[Record], dense: Record | None, docs: Path) -> str:
    network = found[0]["network"]
    title = f"{TITLES.get(network, network)} at {found[0]['budget']:.1%} of the MACs"
    lines = [f"#### {title}", ""]
    if dense is not None and "report" in dense:
        lines += [f"Dense: {dense['report']:.2%} on the report images.", ""]
    lines += [
        "| method | runs | MACs left | parameters left | held-out top-1 | report top-1 | drop |"
    ]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    rows = [_row(e.name, e.title, found, dense) for e in ENTRIES]
    lines += [row for row in rows if row]
    done = [r for r in found if r["outcome"] == "ok"]
    if done:
        draw_curves(done, title, docs / f"{name}.svg")
        lines += ["", f"![{title}, over epochs]({name}.svg)"]
    lively = [r for r in done if r["method"] == "scsp" and r["epochs"][0].get("kept")]
    if lively:
        died, back = changes(lively[0])
        draw_life(lively[0], f"scsp, {title}: a row per channel, a column per epoch",
                  docs / f"{name}-groups.svg")  # fmt: skip
        lines += [
            "",
            f"![channels that die and come back]({name}-groups.svg)",
            "",
            "A panel per group, a row per channel, a column per epoch. Dark: in the plan of that "
            "epoch; grey: silenced; red: just silenced; green: just come back. In this run "
            f"{died} channels were silenced after the first epoch and {back} came back.",
        ]
    return "\n".join(lines)


def _row(name: str, title: str, found: list[Record], dense: Record | None) -> str:
    runs = [r for r in found if r["method"] == name]
    if not runs:
        return ""
    good = [r for r in runs if r["outcome"] == "ok"]
    if not good:
        return f"| {title} | {runs[0]['outcome']}: {runs[0].get('error', '')[:80]} | | | | | |"
    macs = statistics.mean(r["macs_left"] for r in good)
    params = statistics.mean(r["params_left"] for r in good)
    held = _spread([r["epochs"][-1]["metric_cut"] for r in good])
    reported = [r["report"] for r in good if "report" in r]
    drop = ""
    if reported and dense is not None and "report" in dense:
        drop = f"{100 * (dense['report'] - statistics.mean(reported)):.2f}"
    cells = (title, len(good), f"{macs:.3f}", f"{params:.3f}", held, _spread(reported), drop)
    return f"| {' | '.join(map(str, cells))} |"


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.2f}"
