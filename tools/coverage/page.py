"""docs/coverage.md, from the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

from tools.coverage.driver import WORSE, Key
from tools.coverage.failures import failures
from tools.coverage.narrow import excess, width_lines
from tools.records import Record

LIMIT = 0.30  # above this the page says what holds the MACs
OURS = (("ts", "ours"), ("dy", "ours"), ("ts-bn", "ours"), ("dy-bn", "ours"))
LOOSER = (("ts", "approximate"),)
RIVALS = (("ts", "tp"), ("ts", "onnxsim"))
TITLES = {
    ("ts", "ours"): "TorchScript",
    ("dy", "ours"): "dynamo",
    ("ts-bn", "ours"): "TorchScript, BN kept",
    ("dy-bn", "ours"): "dynamo, BN kept",
    ("ts", "approximate"): "TorchScript, `--approximate`",
    ("ts", "tp"): "Torch-Pruning",
    ("ts", "onnxsim"): "onnxsim",
}

_HEAD = """# Coverage: real networks at `--ratio 0.5 --align 1`

*Written by `tools/bench_coverage.py` from its records; every figure was measured.*

How much of a network can be cut is a matter of how far channels can be followed. Every network
here is cut to half of the channels in every group; a layer whose inputs and outputs are both cut
keeps a quarter of its MACs. What a network keeps above 0.25 is either linear by nature (depthwise
layers, the first and the last layer) or held; less than 0.25 means that some layers lost more than
the half that was asked for.
"""

_HOW = """## What was run

Networks of pytorchcv, of `tools/coverage/nets.py` and `yolo.py` (what pytorchcv lacks), and .onnx
files that ship inside PyPI packages ("as found"). Weights are random, normalisation statistics
too, both seeded: coverage does not depend on training, and **nothing here says anything about
accuracy**. Every file went through `onnx_scsp.prune` with all checks on.

- *TorchScript*: `torch.onnx.export(dynamo=False, opset_version=17)`, normalisation folded into
  convolutions; *BN kept*: the same with BatchNormalization nodes; *dynamo*: `dynamo=True`.
- *Torch-Pruning* cuts the torch module (`BasePruner`, ratio 0.5, magnitude importance, layers that
  feed an output ignored, no per-network settings but the heads of a spelled-out attention); the
  pruned module is run, exported, and its MACs counted in the file by the same counter.
- *onnxsim* simplifies the TorchScript file and cuts it with its `apply_structured_pruning`,
  `sparsity=0.5`.
- *`--approximate`* cuts normalisations over channels, too, as the rivals do: the statistics are
  then those of the channels that stay, and the result is no longer the original with channels
  removed. It is given to networks where such a normalisation holds channels.
- Not every tool was given every network: `-` in the table. The catalogue names hard networks
  first, so that a run that was stopped early leans towards those.
- The rivals' results are held to less than ours: they must run and keep the shapes of their
  outputs. Every measurement has a process, one thread and a time limit of its own.

    pip install torch onnxscript pytorchcv torch-pruning onnxsim
    python tools/bench_coverage.py                        # what has no record yet
    python tools/bench_coverage.py --fresh --tools ours   # after a change of onnx_scsp
    python tools/bench_coverage.py --render-only
"""


def render(records: dict[Key, Record]) -> str:
    """The page.

    Args:
        records: Newest record of every measurement.

    Returns:
        Markdown.
    """
    sections = (
        _HEAD,
        _HOW,
        *_versions(records.values()),
        *_summary(records),
        *_table(records),
        *width_lines(records),
        *_held(records),
        *failures(records),
    )
    return "\n".join(sections).rstrip() + "\n"


def _versions(records: Iterable[Record]) -> list[str]:
    records = list(records)
    limits = " or ".join(
        f"{s:.0f} s" for s in sorted({r["limit"] for r in records if "limit" in r})
    )
    ours: Counter[str] = Counter()
    packages: dict[str, set[str]] = {}
    for record in records:
        if record["tool"] == "ours":
            ours[f"{record['versions']['rev']} (code {record['versions']['code'][:8]})"] += 1
        for name, version in record["versions"].items():
            if name not in ("rev", "code"):
                packages.setdefault(name, set()).add(version)
    listed = ", ".join(f"{name} {' and '.join(sorted(packages[name]))}" for name in packages)
    states = ", ".join(f"{state}: {n} files" for state, n in ours.most_common())
    return [f"onnx_scsp at {states}. {listed}. Time limit {limits}.", ""]


def _summary(records: dict[Key, Record]) -> list[str]:
    lines = ["## In short", ""]
    lines += ["| | files | ok | median MACs left | at most 0.30 | worst |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    columns = [*((TITLES[key], *key) for key in OURS), ("as found", "as found", "ours")]
    for title, variant, tool in columns:
        lines += _summary_row(f"onnx_scsp, {title}", _of(records, variant, tool))
    for title, variant in ((TITLES[LOOSER[0]], "ts"), ("as found, `--approximate`", "as found")):
        lines += _summary_row(f"onnx_scsp, {title}", _of(records, variant, "approximate"))
    for variant, tool in RIVALS:
        lines += _summary_row(TITLES[variant, tool], _of(records, variant, tool))
    lines += _summary_row("onnxsim, as found", _of(records, "as found", "onnxsim"))
    lines += ["", *_side_by_side(records), ""]
    return lines


def _side_by_side(records: dict[Key, Record]) -> list[str]:
    """Medians over the networks that each pair of tools finished, and how many a rival did not."""
    lines = []
    for title, tool in (("Torch-Pruning", "tp"), ("onnxsim", "onnxsim")):
        given = [
            r["network"]
            for r in _of(records, "ts", tool)
            if (r["network"], "ts", "ours") in records
        ]
        fine = [
            name
            for name in given
            if all(records[name, "ts", t]["outcome"] == "ok" for t in (tool, "ours"))
        ]
        if not fine:
            continue
        ours, theirs = (
            [records[name, "ts", t]["macs_left"] for name in fine] for t in ("ours", tool)
        )
        worse = [n for n, a, b in zip(fine, ours, theirs, strict=True) if a > b + WORSE]
        names = f": {', '.join(worse)}" if worse else ""
        lines.append(
            f"- {title} was given {len(given)} of these networks and finished {len(fine)}. "
            f"Median MACs left on those: {median(theirs):.3f}, onnx_scsp {median(ours):.3f}. "
            f"onnx_scsp leaves over 0.02 more on {len(worse)}{names}."
        )
        lines += [f"    - {name}: {why}." for name in worse if (why := excess(records, name))]
    return lines


def _summary_row(title: str, records: list[Record]) -> list[str]:
    if not records:
        return [f"| {title} | 0 | not measured | | | |"]
    fine = [record for record in records if record["outcome"] == "ok"]
    if not fine:
        return [f"| {title} | {len(records)} | 0 | | | |"]
    left = [record["macs_left"] for record in fine]
    worst = max(fine, key=lambda record: record["macs_left"])
    low = sum(share <= LIMIT for share in left)
    name = f"{worst['network']} {worst['macs_left']:.3f}"
    return [f"| {title} | {len(records)} | {len(left)} | {median(left):.3f} | {low} | {name} |"]


def _of(records: dict[Key, Record], variant: str, tool: str) -> list[Record]:
    return [r for key, r in records.items() if key[1:] == (variant, tool)]


def _table(records: dict[Key, Record]) -> list[str]:
    names = list(dict.fromkeys(key[0] for key in records if key[2] == "ours"))
    columns = [key for key in (*OURS, *LOOSER, *RIVALS) if _of(records, *key)]
    heads = [f"{TITLES[key]}" for key in columns]
    lines = ["## By network", "", "MACs left; layers touched, checks, seconds and peak memory are"]
    lines += ["those of onnx_scsp on the first file of the row. `-`: not measured.", ""]
    lines += _blindness(records)
    lines += [f"| network | {' | '.join(heads)} | layers | checks | oracle error | s | MB |"]
    lines += ["|---|" + "---:|" * (len(heads) + 5)]
    for name in sorted(names, key=str.lower):
        lines.append(_row(records, name, columns))
    return [*lines, ""]


def _blindness(records: dict[Key, Record]) -> list[str]:
    """What the checks are worth on networks whose output never moves."""
    probes = [r for key, r in records.items() if key[2] == "probe" and r["outcome"] == "ok"]
    blind = sorted({r["network"] for r in probes if r["blind"]}, key=str.lower)
    if not blind:
        return [f"The outputs of all {len(probes)} probed files move with their input.", ""]
    return [
        f"{len(probes)} files were probed with two random inputs. *Blind*: the output stays the",
        "same (weights that are all equal, or signals that random weights let die), so there the",
        "numerical oracles pass whatever was cut, and only structure was checked: "
        + f"{', '.join(blind)}.",
        "",
    ]


def _row(records: dict[Key, Record], name: str, columns: list[tuple[str, str]]) -> str:
    cells = []
    for variant, tool in columns:
        record = records.get((name, variant, tool))
        if record is None and variant == "ts":
            record = records.get((name, "as found", tool))
        export = records.get((name, variant, "export"))
        if record is None and export is not None and export["outcome"] != "ok":
            cells.append("no export")
        else:
            cells.append(_cell(record))
    first = next(records[name, v, "ours"] for v in _variants() if (name, v, "ours") in records)
    probe = records.get((name, first["variant"], "probe"), {})
    figures = _figures(first, blind=bool(probe.get("blind")))
    return f"| {name} | {' | '.join(cells)} | {' | '.join(figures)} |"


def _variants() -> tuple[str, ...]:
    return (*(variant for variant, _ in OURS), "as found")


def _cell(record: Record | None) -> str:
    if record is None:
        return "-"
    if record["outcome"] != "ok":
        return str(record["outcome"])
    return f"{record['macs_left']:.3f}"


def _figures(record: Record, *, blind: bool) -> list[str]:
    seconds, peak = f"{record['seconds']:.0f}", str(record.get("peak_mb", "-"))
    if record["outcome"] != "ok":
        return ["-", "-", "-", seconds, peak]
    error = record["largest_error"]
    return [
        f"{record['touched']}/{record['layers']}",
        f"{record['checks'][0]}/{record['checks'][1]}{', blind' if blind else ''}",
        "-" if error is None else f"{error:.0e}",
        seconds,
        peak,
    ]


def _held(records: dict[Key, Record]) -> list[str]:
    lines = [f"## Above {LIMIT:.2f}, and why", ""]
    lines += [
        "What a network keeps above a quarter, put down to what holds it, as shares of all its"
    ]
    lines += ["MACs; the example is the first node where it shows.", ""]
    rows = [
        record
        for variant in _variants()
        for record in _of(records, variant, "ours")
        if record["outcome"] == "ok" and record["macs_left"] > LIMIT
    ]
    seen: set[tuple[str, float]] = set()  # exporters that agree need no second entry
    for record in sorted(rows, key=lambda r: -r["macs_left"]):
        key = (record["network"], round(record["macs_left"], 3))
        if key in seen:
            continue
        seen.add(key)
        looser = records.get((record["network"], record["variant"], "approximate"), {})
        fine = looser.get("outcome") == "ok"
        more = f"; with `--approximate` {looser['macs_left']:.3f}" if fine else ""
        left = f"{record['macs_left']:.3f}{more}"
        lines.append(f"- **{record['network']}** ({record['variant']}), {left}")
        lines += [
            f"    - {share:.3f} {cause} (`{example}`)"
            for share, cause, example in record["causes"][:4]
            if share >= 0.005
        ]
    return [*lines, ""] if rows else [*lines, "None.", ""]
