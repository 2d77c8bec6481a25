"""`plan`: decide which channels stay and write the plan file."""

from __future__ import annotations

from onnx_scsp.cli.calibration import (
    CALIB_LIMIT,
    CacheOpt,
    CalibLimitOpt,
    CalibOpt,
    ImageOptions,
    calibration_source,
    open_source,
)
from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import (
    BudgetOptions,
    ChoiceOptions,
    JsonOpt,
    ModelArg,
    OutputOpt,
    SeedOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
    prune_config,
    table_choices,
)
from onnx_scsp.cli.output import print_json, print_tables, progress
from onnx_scsp.cli.speed import MachineTableOpt, read_machine_table

NAME = "plan"


def run(
    model: ModelArg,
    output: OutputOpt,
    *,
    budget: BudgetOptions,
    choice: ChoiceOptions,
    calib: CalibOpt = None,
    calib_limit: CalibLimitOpt = CALIB_LIMIT,
    images: ImageOptions,
    cache: CacheOpt = None,
    seed: SeedOpt = 0,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    machine_table: MachineTableOpt = None,
    json: JsonOpt = False,
) -> None:
    """Decide which channels stay and write the decision as a plan file."""
    with guarded():
        config = prune_config(budget, choice, seed=seed)
        source = calibration_source(calib, images)
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
                choices=table_choices(choice.importance),
                progress=watch,
            )
        onnx_scsp.save_plan(plan, output, loaded)
        if json:
            print_json(plan_json(plan))
        else:
            print_tables(*plan_tables(plan, str(output)))
