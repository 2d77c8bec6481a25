"""`bench`: interleaved latency of two models."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt, ProviderOpt, SeedOpt, ShapeOpt, input_shapes
from onnx_scsp.cli.output import print_json, print_tables, progress
from onnx_scsp.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from onnx_scsp.graph.model import Model

NAME = "bench"
Shapes = dict[str, tuple[int, ...]]

FirstArg = Annotated[Path, typer.Argument(metavar="A", help="The reference.")]
SecondArg = Annotated[Path, typer.Argument(metavar="B", help="The model to compare.")]
RoundsOpt = Annotated[int, typer.Option(help="Timed rounds.")]
WarmUpOpt = Annotated[
    int | None,
    typer.Option(help="Rounds before those; as many as it takes to settle where left out."),
]
BatchOpt = Annotated[
    str, typer.Option(help="Batch size where the model leaves it open; several as 1,4,16.")
]
ThreadsOpt = Annotated[str, typer.Option(help="Threads of onnxruntime; several as 1,2.")]
TimingOnlyOpt = Annotated[
    bool, typer.Option("--timing-only", help="No table by operator, no peak memory.")
]
JsonFileOpt = Annotated[Path | None, typer.Option(help="Where to write the result as JSON.")]
PlotOpt = Annotated[
    Path | None, typer.Option(help="Where to draw the result as .svg (needs matplotlib).")
]


def run(
    a: FirstArg,
    b: SecondArg,
    rounds: RoundsOpt = 50,
    warm_up: WarmUpOpt = None,
    threads: ThreadsOpt = "1",
    batch: BatchOpt = "1",
    input_shape: ShapeOpt = None,
    provider: ProviderOpt = "cpu",
    timing_only: TimingOnlyOpt = False,
    seed: SeedOpt = 0,
    json: JsonOpt = False,
    json_file: JsonFileOpt = None,
    plot: PlotOpt = None,
) -> None:
    """Time two models side by side in onnxruntime."""
    with guarded():
        import onnx_scsp
        from onnx_scsp.graph.save import write_text
        from onnx_scsp.report.bench import bench_json, bench_tables
        from onnx_scsp.report.plot import bench_plot, require_matplotlib

        sweep = onnx_scsp.Sweep(
            batches=_numbers("--batch", batch),
            threads=_numbers("--threads", threads),
            input_shapes=shape_points(input_shape),
        )
        models = (onnx_scsp.load(a), onnx_scsp.load(b))
        _check_outputs(models, json_file, plot)
        if plot is not None:
            require_matplotlib()
        with progress() as watch:
            reports = onnx_scsp.bench_sweep(
                *models,
                sweep,
                rounds=rounds,
                warm_up=warm_up,
                seed=seed,
                provider=provider,
                operators=not timing_only,
                memory=not timing_only,
                progress=watch,
            )
        found = bench_json(reports, str(a), str(b))
        if json_file is not None:
            write_text(json_text.dumps(found, indent=1, allow_nan=False) + "\n", json_file)
        if plot is not None:
            write_text(bench_plot(reports, str(a), str(b)), plot)
        if json:
            print_json(found)
        else:
            print_tables(*bench_tables(reports, str(a), str(b)))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Parses `1,4,16`.

    Raises:
        ConfigError: It is no list of positive whole numbers.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"{option} '{text}' is no list of positive numbers such as 1,4,16")
    return tuple(dict.fromkeys(numbers))


def shape_points(options: list[str] | None) -> tuple[Shapes, ...]:
    """Shapes of every point: an input that is named several times takes one of them at each.

    Args:
        options: `NAME:1,3,224,224`, as typed.

    Returns:
        Input name -> shape, point by point; one empty mapping where nothing is named.

    Raises:
        ConfigError: A shape is spelled otherwise, or the inputs have different numbers of shapes.
    """
    by_name: dict[str, list[tuple[int, ...]]] = {}
    for option in options or ():
        for name, shape in input_shapes([option]).items():
            by_name.setdefault(name, []).append(shape)
    n_points = max((len(shapes) for shapes in by_name.values()), default=1)
    for name, shapes in by_name.items():
        if len(shapes) not in (1, n_points):
            raise ConfigError(
                f"--input-shape gives {len(shapes)} shapes for '{name}' and {n_points} for another "
                "input; give one for each point, or one for all"
            )
    return tuple(
        {name: shapes[min(point, len(shapes) - 1)] for name, shapes in by_name.items()}
        for point in range(n_points)
    )


def _check_outputs(models: tuple[Model, ...], *outputs: Path | None) -> None:
    """Refuses output paths before anything is measured."""
    from onnx_scsp.graph.save import check_output

    named = [path for path in outputs if path is not None]
    for path in named:
        for model in models:
            check_output(model, path)
    if len({path.resolve() for path in named}) < len(named):
        raise OutputError(f"{named[0]} is named twice; give each output a file of its own")
