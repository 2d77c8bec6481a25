"""`plan`: decide which channels stay and write the plan file."""

from __future__ import annotations

from onnx_scsp.cli.calibration import (
    CALIB_LIMIT,
    CacheOpt,
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
    AffinityOpt,
    AlignOpt,
    ApproximateOpt,
    ClustererOpt,
    CompensateOpt,
    CriterionOpt,
    IgnoreOpt,
    ImportanceOpt,
    JsonOpt,
    MacsOpt,
    MethodOpt,
    MinShareOpt,
    ModelArg,
    NoMergeOpt,
    NoSyntheticOpt,
    OutputOpt,
    ParamsOpt,
    RatioOpt,
    SeedOpt,
    ShapeOpt,
    SpendByOpt,
    ThreadsOpt,
    input_shapes,
    prune_config,
    table_choices,
)
from onnx_scsp.cli.output import print_json, print_tables, progress
from onnx_scsp.cli.speed import MachineTableOpt, read_machine_table
from onnx_scsp.config import AUTO

NAME = "plan"


def run(
    model: ModelArg,
    output: OutputOpt,
    macs: MacsOpt = None,
    params: ParamsOpt = None,
    ratio: RatioOpt = None,
    method: MethodOpt = "auto",
    clusterer: ClustererOpt = "spectral",
    criterion: CriterionOpt = "energy",
    affinity: AffinityOpt = "weights",
    importance: ImportanceOpt = None,
    align: AlignOpt = AUTO,
    spend_by: SpendByOpt = AUTO,
    min_share: MinShareOpt = 0.1,
    compensate: CompensateOpt = "auto",
    no_merge: NoMergeOpt = False,
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
    cache: CacheOpt = None,
    ignore: IgnoreOpt = None,
    approximate: ApproximateOpt = False,
    no_synthetic: NoSyntheticOpt = False,
    seed: SeedOpt = 0,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    machine_table: MachineTableOpt = None,
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
            affinity=affinity,
            align=align,
            spend_by=spend_by,
            min_share=min_share,
            compensate=compensate,
            no_merge=no_merge,
            ignore=ignore,
            approximate=approximate,
            seed=seed,
            no_synthetic=no_synthetic,
        )
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
        from onnx_scsp.report.pruning import plan_json, plan_tables

        machine = read_machine_table(machine_table)
        loaded = onnx_scsp.load(model)
        with progress() as watch:
            plan = onnx_scsp.make_plan(
                loaded,
                config,
                input_shapes=input_shapes(input_shape),
                machine=machine,
                threads=threads,
                calibration=open_source(source, loaded, calib_limit, seed),
                cache=cache,
                choices=table_choices(importance),
                progress=watch,
            )
        onnx_scsp.save_plan(plan, output, loaded)
        if json:
            print_json(plan_json(plan))
        else:
            print_tables(*plan_tables(plan, str(output)))
