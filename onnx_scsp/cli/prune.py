"""`prune`: plan, apply, verify, write, and show before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import (
    AlignOpt,
    ApproximateOpt,
    ClustererOpt,
    CriterionOpt,
    IgnoreOpt,
    JsonOpt,
    MacsOpt,
    MethodOpt,
    MinShareOpt,
    ModelArg,
    NoMergeOpt,
    NoVerifyOpt,
    OutputOpt,
    ParamsOpt,
    RatioOpt,
    SeedOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
    prune_config,
)
from onnx_scsp.cli.output import print_result, progress

NAME = "prune"

PlanOutOpt = Annotated[Path | None, typer.Option(help="Also write the plan here.")]


def run(
    model: ModelArg,
    output: OutputOpt,
    macs: MacsOpt = None,
    params: ParamsOpt = None,
    ratio: RatioOpt = None,
    method: MethodOpt = "scsp",
    clusterer: ClustererOpt = "spectral",
    criterion: CriterionOpt = "energy",
    align: AlignOpt = 4,
    min_share: MinShareOpt = 0.1,
    no_merge: NoMergeOpt = False,
    ignore: IgnoreOpt = None,
    approximate: ApproximateOpt = False,
    seed: SeedOpt = 0,
    plan_out: PlanOutOpt = None,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    no_verify: NoVerifyOpt = False,
    json: JsonOpt = False,
) -> None:
    """Remove channels to a budget, prove the result, write it."""
    with guarded():
        config = prune_config(
            macs,
            params,
            ratio,
            method=method,
            clusterer=clusterer,
            criterion=criterion,
            align=align,
            min_share=min_share,
            no_merge=no_merge,
            ignore=ignore,
            approximate=approximate,
            seed=seed,
        )
        import onnx_scsp

        with progress() as watch:
            result = onnx_scsp.prune(
                model,
                output,
                config,
                plan_out=plan_out,
                verify_config=onnx_scsp.VerifyConfig(
                    threads=threads, input_shapes=input_shapes(input_shape)
                ),
                verified=not no_verify,
                progress=watch,
            )
        print_result(result, as_json=json)
