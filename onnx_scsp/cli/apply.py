"""`apply`: carry out a plan file, verify, write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import (
    JsonOpt,
    ModelArg,
    NoVerifyOpt,
    OutputOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
)
from onnx_scsp.cli.output import print_result, progress

NAME = "apply"

PlanArg = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.")]
SameGraphOpt = Annotated[
    bool,
    typer.Option(help="Accept a plan made for other weights of the same graph."),
]


def run(
    model: ModelArg,
    plan: PlanArg,
    output: OutputOpt,
    same_graph: SameGraphOpt = False,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    no_verify: NoVerifyOpt = False,
    json: JsonOpt = False,
) -> None:
    """Carry out a plan, prove the result, write it."""
    with guarded():
        import onnx_scsp

        with progress() as watch:
            result = onnx_scsp.prune(
                model,
                output,
                plan=onnx_scsp.read_plan(plan),
                same_graph=same_graph,
                verify_config=onnx_scsp.VerifyConfig(
                    threads=threads, input_shapes=input_shapes(input_shape)
                ),
                verified=not no_verify,
                progress=watch,
            )
        print_result(result, as_json=json)
