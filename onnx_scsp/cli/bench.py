"""`bench`: interleaved latency of two models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt, SeedOpt, ShapeOpt, ThreadsOpt, input_shapes
from onnx_scsp.cli.output import print_json, print_tables

NAME = "bench"

FirstArg = Annotated[Path, typer.Argument(metavar="A", help="The reference.")]
SecondArg = Annotated[Path, typer.Argument(metavar="B", help="The model to compare.")]
RoundsOpt = Annotated[int, typer.Option(help="Timed rounds.")]
WarmUpOpt = Annotated[int, typer.Option(help="Rounds before those.")]
BatchOpt = Annotated[int, typer.Option(help="Batch size where the model leaves it open.")]


def run(
    a: FirstArg,
    b: SecondArg,
    rounds: RoundsOpt = 50,
    warm_up: WarmUpOpt = 5,
    threads: ThreadsOpt = 1,
    batch: BatchOpt = 1,
    input_shape: ShapeOpt = None,
    seed: SeedOpt = 0,
    json: JsonOpt = False,
) -> None:
    """Time two models side by side in onnxruntime."""
    with guarded():
        import onnx_scsp
        from onnx_scsp.report.bench import bench_json, bench_tables

        report = onnx_scsp.benchmark(
            a,
            b,
            rounds=rounds,
            warm_up=warm_up,
            threads=threads,
            batch=batch,
            input_shapes=input_shapes(input_shape),
            seed=seed,
        )
        if json:
            print_json(bench_json(report))
        else:
            print_tables(*bench_tables(report, str(a), str(b)))
