"""`eval`: what a model is worth, or two models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_scsp.cli.calibration import (
    CALIB_BATCH,
    CalibBatchOpt,
    CalibLimitOpt,
    CalibOpt,
    ImageOptions,
    calibration_source,
    open_source,
)
from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt, ModelArg, SeedOpt, ThreadsOpt
from onnx_scsp.cli.output import print_json, print_tables
from onnx_scsp.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from onnx_scsp.calibration import CalibrationData
    from onnx_scsp.evaluate import Comparison
    from onnx_scsp.graph.model import Model

NAME = "eval"
_SIDES = ("a", "b")

OtherArg = Annotated[
    Path | None, typer.Argument(metavar="MODEL2", help="A second model to compare.")
]
HookOpt = Annotated[
    str | None,
    typer.Option(
        "--eval",
        metavar="MODULE:FUNCTION",
        help="Your metric: called with the model as a function from input arrays to output arrays "
        "(or with the onnxruntime session, where its parameter is named session), it returns a "
        "number or a dictionary of numbers.",
    ),
]
LabelsOpt = Annotated[
    Path | None,
    typer.Option(
        help="True classes of the samples of --calib, for top-1: .npy, or .csv with one label per "
        "line or file,label."
    ),
]
OutputNameOpt = Annotated[
    str | None, typer.Option(help="The output with the class scores; the first where not given.")
]
DivergenceOpt = Annotated[str, typer.Option(help="kl, mse, or auto: kl for class scores.")]


def run(
    model: ModelArg,
    *,
    other: OtherArg = None,
    hook: HookOpt = None,
    labels: LabelsOpt = None,
    output_name: OutputNameOpt = None,
    divergence: DivergenceOpt = "auto",
    calib: CalibOpt = None,
    calib_limit: CalibLimitOpt = None,
    calib_batch: CalibBatchOpt = CALIB_BATCH,
    images: ImageOptions,
    seed: SeedOpt = 0,
    threads: ThreadsOpt = 2,
    json: JsonOpt = False,
) -> None:
    """Measure a model with your own metric or top-1; compare it with a second one."""
    with guarded():
        source, recipe = calibration_source(calib, images)
        _check_request(source, hook, labels, other)
        from onnx_scsp.evaluate import evaluate
        from onnx_scsp.graph.load import load

        models = [load(path) for path in (model, other) if path is not None]
        figures: list[dict[str, float]] = []
        if hook is not None:
            figures = [evaluate(each, hook, threads=threads) for each in models]
        compared = None
        data = open_source((source, recipe), models[0], calib_limit, seed)
        if data is not None:
            samples = _Samples(data, output_name, calib_batch, divergence, threads)
            figures = figures or samples.top1(models, labels)
            compared = samples.compared(models)
        result = _record([str(each.path) for each in models], figures, compared)
        if json:
            print_json(result)
        else:
            print_tables(*_tables(result))


@dataclass(frozen=True, slots=True)
class _Samples:
    """Calibration data and how it is run."""

    data: CalibrationData
    output: str | None
    batch: int
    kind: str
    threads: int

    def top1(self, models: list[Model], labels: Path | None) -> list[dict[str, float]]:
        from onnx_scsp.evaluate import Predictor, read_labels, top1

        if labels is None:
            return []
        truth = read_labels(labels, self.data)
        predictors = (Predictor(model, threads=self.threads) for model in models)
        return [
            {"top1": top1(each, self.data, truth, self.output, batch=self.batch)}
            for each in predictors
        ]

    def compared(self, models: list[Model]) -> Comparison | None:
        from onnx_scsp.evaluate import Predictor, compare

        if len(models) < 2:
            return None
        a, b = (Predictor(model, threads=self.threads) for model in models)
        return compare(a, b, self.data, self.output, kind=self.kind, batch=self.batch)


def _check_request(
    calib: str | None, hook: str | None, labels: Path | None, other: Path | None
) -> None:
    if hook is not None and labels is not None:
        raise ConfigError("give --eval or --labels, not both")
    if labels is not None and calib is None:
        raise ConfigError("--labels needs the samples they belong to; give --calib DATA")
    if calib is not None and labels is None and other is None:
        raise ConfigError("--calib alone measures nothing; add --labels FILE or a second model")
    if calib is None and hook is None:
        raise ConfigError("nothing to measure: give --eval module:function, or --calib DATA")


def _record(
    paths: list[str], figures: list[dict[str, float]], compared: Comparison | None
) -> dict[str, Any]:
    """JSON-ready: the models, every metric of each of them, and how far they are apart."""
    record: dict[str, Any] = {
        "models": dict(zip(_SIDES, paths, strict=False)),
        "metrics": {name: _row(name, figures) for name in dict.fromkeys(_names(figures))},
    }
    if compared is not None:
        record["comparison"] = {
            "agreement": compared.agreement,
            "divergence": compared.divergence if math.isfinite(compared.divergence) else None,
            "samples": compared.samples,
        }
    return record


def _names(figures: list[dict[str, float]]) -> list[str]:
    return [name for found in figures for name in found]


def _row(name: str, figures: list[dict[str, float]]) -> dict[str, float | None]:
    row = {side: found.get(name) for side, found in zip(_SIDES, figures, strict=False)}
    if len(row) == 2:
        a, b = row["a"], row["b"]
        row["difference"] = b - a if a is not None and b is not None else None
    return row


def _tables(record: Mapping[str, Any]) -> tuple[Text, Table]:
    from rich.table import Table
    from rich.text import Text

    columns = [*record["models"], "difference"] if len(record["models"]) == 2 else ["a"]
    models = Text("\n".join(f"{side}: {path}" for side, path in record["models"].items()))
    table = Table()
    table.add_column("metric")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in record["metrics"].items():
        table.add_row(name, *(_spelled(row.get(column)) for column in columns))
    for name, value in record.get("comparison", {}).items():
        table.add_row(name, "", "", str(value) if name == "samples" else _spelled(value))
    return models, table


def _spelled(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
