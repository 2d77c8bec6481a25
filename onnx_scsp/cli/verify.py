"""`verify`: structure, twin and permutation oracles, fidelity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.guard import CHECK_FAILED, guarded
from onnx_scsp.cli.options import JsonOpt, SeedOpt, ShapeOpt, ThreadsOpt, input_shapes
from onnx_scsp.cli.output import print_json, print_tables

NAME = "verify"

FirstArg = Annotated[Path, typer.Argument(metavar="A", help="The original.")]
SecondArg = Annotated[Path, typer.Argument(metavar="B", help="The result.")]
PlanOpt = Annotated[Path | None, typer.Option(help="The plan that led from A to B.")]
DataOpt = Annotated[
    Path | None,
    typer.Option(help="Inputs: .npz with the input names as keys, or .npy for a single input."),
]


def run(
    a: FirstArg,
    b: SecondArg,
    plan: PlanOpt = None,
    data: DataOpt = None,
    input_shape: ShapeOpt = None,
    seed: SeedOpt = 0,
    threads: ThreadsOpt = 2,
    json: JsonOpt = False,
) -> None:
    """Check a result against its original."""
    with guarded():
        import onnx_scsp
        from onnx_scsp.report.checks import report_json, report_table

        first = onnx_scsp.load(a)
        report = onnx_scsp.verify(
            first,
            b,
            onnx_scsp.read_plan(plan) if plan is not None else None,
            config=onnx_scsp.VerifyConfig(
                seed=seed, threads=threads, input_shapes=input_shapes(input_shape)
            ),
            data=onnx_scsp.read_inputs(data, first) if data is not None else None,
        )
        if json:
            print_json(report_json(report))
        else:
            print_tables(report_table(report))
        if not report:
            raise typer.Exit(CHECK_FAILED)
