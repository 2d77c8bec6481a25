"""Lifts every .onnx file of some folders into PyTorch and compares with onnxruntime.

A development tool; it needs torch, and onnxsim for the column "baked" (left out without it).

    python tools/check_lift.py --zoo FOLDER [--zoo FOLDER ...] -q     # writes docs/lift.md

What has a record is not examined again (`--fresh` does), so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from onnx_scsp.errors import ScspError, UnsupportedError  # noqa: E402
from onnx_scsp.graph.constants import Constants  # noqa: E402
from onnx_scsp.graph.load import from_proto, load  # noqa: E402
from onnx_scsp.graph.model import Model  # noqa: E402
from onnx_scsp.graph.session import (  # noqa: E402
    InferenceSession,
    open_variant,
    random_feeds,
    run_session,
)
from onnx_scsp.graph.shapes import input_specs  # noqa: E402
from onnx_scsp.graph.view import view  # noqa: E402
from onnx_scsp.retrain.back import relative_difference, write_back  # noqa: E402
from onnx_scsp.retrain.lift import OPERATORS, Lifted, lift, missing_operators  # noqa: E402

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-4
SAMPLES = 3
_ROOM = 10


@dataclass
class Row:
    """What was seen of one file.

    Attributes:
        name: File.
        status: `ok`, `rounding` (further apart than the tolerance, but not more than `_ROOM` times
            what single precision alone does to the module), `differs`, or what stopped it.
        one: Relative difference at the file's batch size.
        three: At three times that.
        single: Of the module in single precision to the module in double precision, where it is
            needed for the verdict.
        parameters: Trained tensors, and those of them that gradients reach.
        same: Whether the untrained model comes back byte for byte.
        baked: Difference at three samples with the batch baked into the shapes, or why not.
        repairs: Nodes that were adjusted for that.
    """

    name: str
    status: str = ""
    one: float = float("nan")
    three: float = float("nan")
    single: float = float("nan")
    parameters: tuple[int, int] = (0, 0)
    same: bool = False
    baked: str = "-"
    repairs: int = 0


def examine(path: Path, *, bake: bool) -> Row:
    """Everything about one file."""
    row = Row(path.name)
    try:
        model = load(path)
        lifted = lift(model)
    except UnsupportedError:
        row.status = f"lacks {', '.join(missing_operators(load(path)))}"
        return row
    except ScspError as error:
        row.status = f"not read: {error}"
        return row
    try:
        with open_variant(model.proto, model, optimise=True) as session:
            compare(row, model, lifted, session)
    except ScspError as error:
        # what onnxruntime refuses has nothing to be compared with
        row.status = f"lifted; {str(error)[:90]}"
        return row
    row.parameters = gradients(lifted, feeds_of(model, 0))
    row.same = write_back(model, lifted) is model
    if bake:
        row.baked, row.repairs = baked(model)
    return row


def compare(row: Row, model: Model, lifted: Lifted, session: InferenceSession) -> None:
    """Fills in the differences to onnxruntime."""
    parts = [feeds_of(model, seed) for seed in range(SAMPLES)]
    row.one = worst(in_torch(lifted, parts[0]), run_session(session, parts[0]))
    whole = joined(parts, lifted.batch.inputs)
    found = in_torch(lifted, whole)
    if is_open(model):
        row.three = worst(found, run_session(session, whole))
    else:
        row.three = worst(found, together([run_session(session, part) for part in parts], found))
    if max(row.one, row.three) <= TOLERANCE:
        row.status = "ok"
        return
    double = lift(model).double()
    with suppress(RuntimeError):  # a file that casts to single precision itself has no double
        row.single = worst(found, in_torch(double, whole, torch.float64))
    is_rounding = max(row.one, row.three) <= _ROOM * row.single
    row.status = "rounding" if is_rounding else "differs"


def feeds_of(model: Model, seed: int) -> Arrays:
    """Random inputs of the file's shapes, stand-ins where an axis is open."""
    graph = view(model.proto)
    return random_feeds(input_specs(model, graph, Constants(model, graph)), seed)


def is_open(model: Model) -> bool:
    """Whether the file leaves the first axis of all its inputs open."""
    graph = view(model.proto)
    return all(spec.dynamic[0] for spec in input_specs(model, graph, Constants(model, graph)))


def joined(parts: list[Arrays], counted: tuple[str, ...]) -> Arrays:
    """Several inputs as one batch."""
    return {
        name: np.concatenate([part[name] for part in parts]) if name in counted else array
        for name, array in parts[0].items()
    }


def together(parts: list[Arrays], like: Arrays) -> Arrays:
    """Outputs of single runs, joined on the axis on which the batch's output is longer."""
    whole = {}
    for name, array in parts[0].items():
        shape = like[name].shape
        grown = [a for a in range(array.ndim) if shape[a] == len(parts) * array.shape[a]]
        whole[name] = np.concatenate([part[name] for part in parts], grown[0] if grown else 0)
    return whole


def in_torch(lifted: Lifted, feeds: Arrays, dtype: torch.dtype = torch.float32) -> Arrays:
    """One run of the module."""
    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    inputs = {n: x.to(dtype) if x.is_floating_point() else x for n, x in inputs.items()}
    with torch.no_grad():
        return {name: value.numpy() for name, value in lifted.run(inputs).items()}


def worst(found: Arrays, expected: Arrays) -> float:
    """Largest relative difference of any output."""
    return max(relative_difference(found[name], array) for name, array in expected.items())


def gradients(lifted: Lifted, feeds: Arrays) -> tuple[int, int]:
    """How many parameters there are, and how many of them a gradient reaches."""
    results = lifted(*(torch.from_numpy(feeds[name]) for name in lifted.input_names))
    floating = [y.double().square().mean() for y in results if y.requires_grad]
    if floating:
        torch.stack(floating).sum().backward()
    weights = list(lifted.parameters())
    return len(weights), sum(weight.grad is not None for weight in weights)


def baked(model: Model) -> tuple[str, int]:
    """The same with a batch of one baked into every shape constant, run at three samples."""
    import onnxsim

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for output in proto.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()
    del proto.graph.value_info[:]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            static = from_proto(onnxsim.simplify(proto)[0])
        except Exception as error:  # of another package, of any kind
            return f"onnxsim fails: {type(error).__name__}", 0
    lifted = lift(static)
    if not lifted.batch.free:
        return f"stays 1: {lifted.batch.reason}", 0
    parts = [feeds_of(static, seed) for seed in range(SAMPLES)]
    found = in_torch(lifted, joined(parts, lifted.batch.inputs))
    try:
        with open_variant(static.proto, static, optimise=True) as session:
            single = [run_session(session, part) for part in parts]
    except ScspError:
        return "onnxsim's file does not run", 0
    return f"{worst(found, together(single, found)):.0e}", len(lifted.batch.repairs)


def page(rows: list[Row]) -> str:
    """The page, in Markdown."""
    lacking = [row for row in rows if row.status.startswith("lacks")]
    lifted = len(rows) - len(lacking)
    counts = {
        status: sum(row.status == status for row in rows)
        for status in ("ok", "rounding", "differs")
    }
    refused = len(rows) - len(lacking) - sum(counts.values())
    reached = sum(row.parameters[0] == row.parameters[1] for row in rows if row.parameters[0])
    trained = sum(1 for row in rows if row.parameters[0])
    freed = [row for row in rows if row.baked[:1].isdigit()]
    tried = [row for row in rows if row.baked != "-" and not row.baked.startswith("onnxsim")]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "onnx", "onnxruntime")
    )
    lines = [
        "# Lifting into PyTorch",
        "",
        "*Written by `tools/check_lift.py`; every figure was measured.*",
        "",
        "The files are those of [docs/coverage.md](coverage.md) (random weights) and trained ones.",
        f"{versions}, one thread. {len(OPERATORS)} operators in the table, each of them tested in "
        "`tests/retrain`, against onnxruntime wherever that has the operator.",
        "",
        f"- {len(rows)} files, {lifted} lifted, {len(lacking)} lack an operator.",
        f"- {counts['ok']} compute what onnxruntime does within {TOLERANCE:.0e} of the largest "
        f"output, at one batch and at {SAMPLES}; {counts['differs']} differ by more.",
        f"- {counts['rounding']} are of another kind (*rounding*): their random weights blow "
        "rounding up. They are further from onnxruntime than that, but not more than "
        f"{_ROOM} times as far as single precision takes the module from itself in double "
        "precision (column *single*).",
        f"- {refused} could not be compared, because onnxruntime refuses the file.",
        f"- Gradients reach every parameter in {reached} of {trained}; "
        f"{sum(row.same for row in rows)} come back from an untrained lift byte for byte.",
    ]
    if tried:
        lines.append(
            f"- *baked*: a batch of one was written into all shape constants (by onnxsim), then "
            f"{SAMPLES} samples were run at once and compared with single runs of onnxruntime: "
            f"{len(freed)} of {len(tried)} are freed, "
            f"{sum(row.repairs > 0 for row in freed)} of them by adjusting constants; "
            "`-` was not tried."
        )
    lines += [
        "",
        "    python tools/check_lift.py --zoo FOLDER -q",
        "",
        "| file | verdict | batch x1 | batch x3 | single | parameters | reached | "
        "baked | adjusted nodes |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|",
        *(_line(row) for row in rows),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row) -> str:
    figures = " | ".join(_spelled(value) for value in (row.one, row.three, row.single))
    total, reached = row.parameters
    return (
        f"| {row.name} | {row.status} | {figures} | {total} | {reached} | {row.baked} | "
        f"{row.repairs or '-'} |"
    )


def _spelled(value: float) -> str:
    return "-" if value != value else f"{value:.0e}"


def read_records(path: Path) -> dict[str, Row]:
    """File name -> its last record."""
    if not path.exists():
        return {}
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    rows = [Row(**{**record, "parameters": tuple(record["parameters"])}) for record in records]
    return {row.name: row for row in rows}


def files(folders: list[Path]) -> Iterator[Path]:
    """Every .onnx file of the folders, by name."""
    for folder in folders:
        yield from sorted(folder.rglob("*.onnx"))


def main() -> int:
    """Examines every file and writes the page; 1 where a file differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zoo", type=Path, action="append", default=[], help="folder of .onnx")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "lift.md")
    parser.add_argument("--records", type=Path, default=ROOT / ".cache" / "lift.jsonl")
    parser.add_argument("--fresh", action="store_true", help="examine again what has a record")
    parser.add_argument("--no-bake", action="store_true", help="leave the column `baked` out")
    parser.add_argument("--render-only", action="store_true", help="the page from the records")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing of single files")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bakes = find_spec("onnxsim") is not None and not chosen.no_bake
    known = {} if chosen.fresh else read_records(chosen.records)
    chosen.records.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted(known.values(), key=lambda row: row.name) if chosen.render_only else []
    for path in () if chosen.render_only else files(chosen.zoo):
        row = known.get(path.name) or examine(path, bake=bakes)
        rows.append(row)
        if path.name not in known:
            with chosen.records.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(row)) + "\n")
        if not chosen.quiet:
            print(_line(row), flush=True)
    chosen.page.write_text(page(rows), encoding="utf-8")
    print(f"{len(rows)} files: {sum(row.status == 'ok' for row in rows)} ok, see {chosen.page}")
    return int(any(row.status == "differs" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
