"""`plan`: decide which channels stay and write the plan file."""

from __future__ import annotations

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
    OutputOpt,
    ParamsOpt,
    RatioOpt,
    SeedOpt,
    ShapeOpt,
    input_shapes,
    prune_config,
)
from onnx_scsp.cli.output import print_json, print_tables, progress

NAME = "plan"


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
    input_shape: ShapeOpt = None,
    json: JsonOpt = False,
) -> None:
    """Decide which channels stay and write the decision as a plan file."""
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
        from onnx_scsp.report.pruning import plan_json, plan_tables

        source = onnx_scsp.load(model)
        with progress() as watch:
            plan = onnx_scsp.make_plan(
                source, config, input_shapes=input_shapes(input_shape), progress=watch
            )
        onnx_scsp.save_plan(plan, output, source)
        if json:
            print_json(plan_json(plan))
        else:
            print_tables(*plan_tables(plan, str(output)))
