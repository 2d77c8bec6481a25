"""docs/speed.md, from the records alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tools.records import Record
from tools.speed.catalog import BUDGET, DENSE, NETWORKS, OURS, PROMISED, Variant
from tools.speed.cost import BIG, COSTED, GATED, GROWN
from tools.speed.driver import Key
from tools.speed.figures import against, best_rival, floor, macs_left, ratio

Records = Mapping[Key, Record]

_HEAD = f"""# Speed: {BUDGET:.0%} of the MACs, and what that saves in the runtime

*Written by `tools/bench_speed.py` from its records; every figure was measured.*
"""

_PRELIMINARY = """
**Preliminary: measured on a machine that did other work at the same time. Not for quoting.**
"""

_HOW = """
Latency in onnxruntime relative to the dense file (smaller is faster), batch 1, 224x224 (unet
128x128). All files of a network run interleaved in one process, in random order, the dense one
twice; ratios are those of medians, with 95 % bootstrap intervals over rounds; the noise floor is
how far the dense file's ratio to itself reaches ([how](bench.md)); *unsteady* are times that had
not settled when the counted rounds began. In parentheses the MACs left in the file, by one counter
for all. Weights are random: **nothing here says anything about accuracy**.
"""

_RUN = """## What was run

- Every network is exported by `torch.onnx.export(dynamo=False)` with its normalisation folded.
- *onnx_scsp* prunes that file (`onnx-scsp prune --macs 0.5 --no-synthetic`, synthetic inputs would
  tell nothing of random weights), all other options being the defaults.
- *Torch-Pruning* prunes the module (`BasePruner`, L2 norms, layers that feed an output ignored),
  plain and with `round_to`; its ratio is searched until the MACs fit, the same for every group, or,
  where rounded widths jump over the budget that way, ranked over all groups. It cannot follow the
  split blocks of yolov8n; they get two convolutions in place of one, as in its own example.
  *onnx_scsp at the MACs of round_to 16* has as many MACs left as the rival's file has, so that the
  two are compared at the same; where another rival is the fastest, ours has half of the MACs.
- *onnxsim* simplifies the file and prunes it (`apply_structured_pruning`), its sparsity searched.
- Whole processes run without limits on their threads, three times in turn (median), grown networks
  once. *Torch-Pruning* there: import, build without initialising, load weights, prune once at a
  given ratio (no search), export. *onnxsim*: simplify, prune once, save. *onnx_scsp*: plan, cut,
  all checks, save (`--no-gate`); *with the gate* it also times the result beside the original, so
  that no slower model is written, as it does by default.

```
python tools/bench_speed.py                    # what has no record yet
python tools/bench_speed.py --stage time,render --fresh
python tools/bench_speed.py --render-only
```
"""


def render(records: Records, chosen: Sequence[Variant], *, preliminary: bool = False) -> str:
    """The page.

    Args:
        records: Newest record of every measurement.
        chosen: Variants to show, ours first.
        preliminary: Whether to say that the figures are.

    Returns:
        Markdown.
    """
    threads = sorted({int(key[2]) for key in records if key[0] == "time"})
    sections = [_HEAD, *([_PRELIMINARY] if preliminary else []), _HOW]
    for count in threads:
        sections += [*_latency(records, chosen, count), ""]
    sections += [*_promises(records, chosen), "", *_cost(records), "", *_growth(records), ""]
    sections += [*_failures(records), "", _RUN, *_versions(records)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(sections)).rstrip() + "\n"


def _latency(records: Records, chosen: Sequence[Variant], threads: int) -> list[str]:
    heads = [variant.shown for variant in chosen]
    plural = "s" if threads > 1 else ""
    lines = [f"## Latency, {threads} thread{plural}", ""]
    ends = ["ours at its MACs to best rival", "noise floor"]
    lines += [f"| {' | '.join(['network', 'dense, ms', *heads, *ends])} |"]
    lines += ["|---|---:|" + "---:|" * len(chosen) + "---|---:|"]
    for net in NETWORKS:
        record = records.get(("time", net.label, str(threads)))
        if record is None:
            lines.append(f"| {net.label} | not measured |" + " |" * (len(chosen) + 2))
            continue
        if record["outcome"] != "ok":
            lines.append(f"| {net.label} | {record['outcome']} |" + " |" * (len(chosen) + 2))
            continue
        cells = [_cell(records, record, net.label, variant) for variant in chosen]
        dense_ms = float(np.median(record["rounds_ms"][DENSE]))
        unsteady = "" if record["steady"] else ", unsteady"
        end = [_rivalry(record, chosen), f"{floor(record):.3f}{unsteady}"]
        lines.append(f"| {' | '.join([net.label, f'{dense_ms:.2f}', *cells, *end])} |")
    return lines


def _cell(records: Records, record: Record, network: str, variant: Variant) -> str:
    found = ratio(record, variant.name)
    if found is None:
        outcome = records.get(("prune", network, variant.name), {}).get("outcome", "ok")
        return "not timed" if outcome == "ok" else str(outcome)
    left = macs_left(records, network, variant.name)
    macs = "" if left is None else f" ({left:.3f})"
    if variant.tool == OURS:
        return f"**{found.value:.3f}** {found.low:.3f} to {found.high:.3f}{macs}"
    return f"{found.value:.3f}{macs}"


def _rivalry(record: Record, chosen: Sequence[Variant]) -> str:
    """Ours, at the same MACs where that was made, against the fastest rival."""
    best = best_rival(record, chosen)
    if best is None:
        return "-"
    rival = best[0]
    timed = [v.name for v in chosen if v.like == rival.name and ratio(record, v.name) is not None]
    compared = against(record, rival, (*timed, OURS)[0])
    if compared is None:
        return "-"
    verdict, found = compared
    spread = f"{found.low:.3f} to {found.high:.3f}"
    return f"{found.value:.3f}, {spread}: {verdict} ({rival.shown})"


def _promises(records: Records, chosen: Sequence[Variant]) -> list[str]:
    """What is promised, and whether the records keep it."""
    lines = ["## Promised and measured", "", "| network | threads | promised | measured | |"]
    lines += ["|---|---:|---:|---:|---|"]
    for (network, threads), limit in PROMISED.items():
        record = records.get(("time", network, str(threads)), {})
        found = ratio(record, OURS)
        if found is None:
            lines.append(f"| {network} | {threads} | {limit:.2f} | not measured | |")
            continue
        verdict = "met" if found.value <= limit else "**not met**"
        lines.append(f"| {network} | {threads} | {limit:.2f} | {found.value:.3f} | {verdict} |")
    return lines


def _cost(records: Records) -> list[str]:
    lines = ["## The tools as whole processes", ""]
    heads = ["network", "onnx_scsp", "with the gate", "Torch-Pruning", "onnxsim"]
    lines += [f"| {' | '.join([*heads, 'onnx_scsp / Torch-Pruning'])} |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for network in COSTED:
        tools = ("ours", GATED, "tp", "onnxsim")
        found = {tool: records.get(("cost", network, tool)) for tool in tools}
        ours, rival = found["ours"], found["tp"]
        relative = "-"
        if ours and rival and ours["outcome"] == rival["outcome"] == "ok":
            relative = f"{ours['seconds'] / rival['seconds']:.2f}"
        cells = [_process(record) for record in found.values()]
        lines.append(f"| {network} | {' | '.join([*cells, relative])} |")
    return lines


def _process(record: Record | None) -> str:
    if record is None:
        return "not measured"
    if record["outcome"] != "ok":
        return str(record["outcome"])
    return f"{record['seconds']:.1f} s, {record['peak_mb']:,} MB"


def _growth(records: Records) -> list[str]:
    lines = ["## As models grow", ""]
    lines += [
        "Residual blocks of one width (`tools/speed/grown.py`): 1x1 convolutions of 32 channels"
    ]
    lines += ["for nodes, 3x3 of 64 to 256 for parameters, 3x3 of 1,024 for the big one.", ""]
    lines += ["| | nodes | parameters | onnx_scsp | onnxsim |", "|---|---:|---:|---:|---:|"]
    for grown in (*GROWN, BIG):
        cells = [_process(records.get(("cost", grown.name, tool))) for tool in ("ours", "onnxsim")]
        if grown.external:
            cells[1] = "not run (one message over 2 GB)"
        sizes = [f"{grown.nodes:,}", f"{grown.params:,}"]
        lines.append(f"| {' | '.join([grown.name, *sizes, *cells])} |")
    return lines


def _failures(records: Records) -> list[str]:
    lines = ["## What failed", ""]
    failed = [record for record in records.values() if record["outcome"] != "ok"]
    for record in failed:
        words = " ".join(record.get("error", "").split()).replace("|", "/").replace("`", "'")[:220]
        name = f"{record['stage']}, {record['network']}, {record['what']}"
        lines.append(f"- {name}: {record['outcome']}: {words}")
    return lines if failed else [*lines, "Nothing."]


def _versions(records: Records) -> list[str]:
    if not records:
        return []
    ours = [r for key, r in records.items() if key[0] == "prune" and key[2].startswith(OURS)]
    states = {f"{r['versions']['rev']} (code {r['versions']['code'][:8]})" for r in ours}
    packages: dict[str, set[str]] = {}
    for record in records.values():
        for name, version in record["versions"].items():
            if name not in ("rev", "code"):
                packages.setdefault(name, set()).add(version)
    listed = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in packages.items())
    machines = "; ".join(sorted({record["machine"] for record in records.values()}))
    state = ", ".join(sorted(states)) or "no file of ours"
    return [f"onnx_scsp at {state}. {listed}. Machine: {machines}."]
