"""`apply`: carry out a plan file, verify, write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.calibration import (
    CALIB_LIMIT,
    CalibLimitOpt,
    CalibOpt,
    ColourOpt,
    LayoutOpt,
    MeanOpt,
    PreprocessOpt,
    ResizeOpt,
    ScaleOpt,
    SizeOpt,
    StdOpt,
    calibration_source,
    open_source,
)
from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import (
    JsonOpt,
    ModelArg,
    NoVerifyOpt,
    OutputOpt,
    SeedOpt,
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
    calib: CalibOpt = None,
    calib_limit: CalibLimitOpt = CALIB_LIMIT,
    preprocess: PreprocessOpt = None,
    size: SizeOpt = None,
    resize: ResizeOpt = None,
    layout: LayoutOpt = None,
    colour: ColourOpt = None,
    scale: ScaleOpt = None,
    mean: MeanOpt = None,
    std: StdOpt = None,
    same_graph: SameGraphOpt = False,
    seed: SeedOpt = 0,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    no_verify: NoVerifyOpt = False,
    json: JsonOpt = False,
) -> None:
    """Carry out a plan, prove the result, write it."""
    with guarded():
        source = calibration_source(
            calib,
            preprocess,
            size=size,
            resize=resize,
            layout=layout,
            colour=colour,
            scale=scale,
            mean=mean,
            std=std,
        )
        import onnx_scsp

        wanted = onnx_scsp.read_plan(plan)
        loaded = onnx_scsp.load(model)
        with progress() as watch:
            result = onnx_scsp.prune(
                loaded,
                output,
                plan=wanted,
                same_graph=same_graph,
                verify_config=onnx_scsp.VerifyConfig(
                    threads=threads, input_shapes=input_shapes(input_shape)
                ),
                verified=not no_verify,
                calibration=open_source(source, loaded, calib_limit, seed),
                progress=watch,
            )
        print_result(result, as_json=json)
