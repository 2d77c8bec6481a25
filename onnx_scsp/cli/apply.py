"""`apply`: carry out a plan file, verify, write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.calibration import (
    CALIB_LIMIT,
    CalibLimitOpt,
    CalibOpt,
    ImageOptions,
    calibration_source,
    open_source,
)
from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import (
    JsonOpt,
    ModelArg,
    NoVerifyOpt,
    OutputOpt,
    ProviderOpt,
    SeedOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
)
from onnx_scsp.cli.output import print_result, progress
from onnx_scsp.cli.speed import (
    GateOpt,
    MachineTableOpt,
    NoGateOpt,
    asked_gate,
    read_machine_table,
)

NAME = "apply"

WidenedOpt = Annotated[
    Path | None, typer.Option(help="Write the plan here, with what --gate widen changed.")
]

PlanArg = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.")]
SameGraphOpt = Annotated[
    bool,
    typer.Option(help="Accept a plan made for other weights of the same graph."),
]


def run(
    model: ModelArg,
    plan: PlanArg,
    output: OutputOpt,
    *,
    calib: CalibOpt = None,
    calib_limit: CalibLimitOpt = CALIB_LIMIT,
    images: ImageOptions,
    same_graph: SameGraphOpt = False,
    seed: SeedOpt = 0,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    no_verify: NoVerifyOpt = False,
    gate: GateOpt = "check",
    no_gate: NoGateOpt = False,
    provider: ProviderOpt = "cpu",
    machine_table: MachineTableOpt = None,
    plan_out: WidenedOpt = None,
    json: JsonOpt = False,
) -> None:
    """Carry out a plan, prove the result, write it."""
    with guarded():
        source = calibration_source(calib, images)
        gate = asked_gate(gate, no_gate)
        import onnx_scsp

        machine = read_machine_table(machine_table)
        wanted = onnx_scsp.read_plan(plan)
        loaded = onnx_scsp.load(model)
        with progress() as watch:
            result = onnx_scsp.prune_gated(
                loaded,
                output,
                plan=wanted,
                gate=gate,
                threads=threads,
                provider=provider,
                machine=machine,
                plan_out=plan_out,
                same_graph=same_graph,
                verify_config=onnx_scsp.VerifyConfig(
                    threads=threads, input_shapes=input_shapes(input_shape)
                ),
                verified=not no_verify,
                calibration=open_source(source, loaded, calib_limit, seed),
                progress=watch,
            )
        print_result(result, as_json=json)
