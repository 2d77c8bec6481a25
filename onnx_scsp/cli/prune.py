"""`prune`: plan, apply, verify, write, and show before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    NoVerifyOpt,
    OutputOpt,
    ProviderOpt,
    SeedOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
    prune_config,
    table_choices,
)
from onnx_scsp.cli.output import print_result, progress
from onnx_scsp.cli.speed import (
    GateOpt,
    LatencyMsOpt,
    LatencyOpt,
    MachineTableOpt,
    NoGateOpt,
    TargetTableOpt,
    asked_gate,
    asked_latency,
    measured_gate,
    print_latency,
    read_device_table,
    read_machine_table,
)
from onnx_scsp.cli.tolerance import (
    MaxDivergenceOpt,
    MaxDropOpt,
    MetricOpt,
    StateOpt,
    TargetOpt,
    asked_tolerance,
    print_within,
)
from onnx_scsp.errors import ConfigError

NAME = "prune"

PlanOutOpt = Annotated[Path | None, typer.Option(help="Also write the plan here.")]


def run(
    model: ModelArg,
    output: OutputOpt,
    *,
    budget: BudgetOptions,
    latency: LatencyOpt = None,
    latency_ms: LatencyMsOpt = None,
    target_table: TargetTableOpt = None,
    machine_table: MachineTableOpt = None,
    gate: GateOpt = "check",
    no_gate: NoGateOpt = False,
    provider: ProviderOpt = "cpu",
    max_drop: MaxDropOpt = None,
    metric: MetricOpt = None,
    max_divergence: MaxDivergenceOpt = None,
    target: TargetOpt = None,
    state: StateOpt = None,
    choice: ChoiceOptions,
    calib: CalibOpt = None,
    calib_limit: CalibLimitOpt = CALIB_LIMIT,
    images: ImageOptions,
    cache: CacheOpt = None,
    seed: SeedOpt = 0,
    plan_out: PlanOutOpt = None,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    no_verify: NoVerifyOpt = False,
    json: JsonOpt = False,
) -> None:
    """Remove channels to a budget or a tolerance, prove the result, write it."""
    with guarded():
        tolerance = asked_tolerance(
            max_drop, metric, max_divergence, target, state, no_verify=no_verify
        )
        aim = asked_latency(
            latency,
            latency_ms,
            target_table,
            threads=threads,
            provider=provider,
            tolerance=tolerance is not None,
        )
        gate = asked_gate(gate, no_gate)
        if gate == "widen" and (tolerance is not None or aim is not None):
            raise ConfigError("--gate widen goes with --macs, --params and --ratio")
        searched = None if aim is None else "latency"
        if tolerance is not None:
            searched = target or "macs"
        config = prune_config(budget, choice, seed=seed, searched=searched)
        source = calibration_source(calib, images)
        import onnx_scsp

        device = read_device_table(target_table)
        machine = read_machine_table(machine_table)
        checking = onnx_scsp.VerifyConfig(threads=threads, input_shapes=input_shapes(input_shape))
        loaded = onnx_scsp.load(model)
        data = open_source(source, loaded, calib_limit, seed)
        choices = table_choices(choice.importance)
        if tolerance is not None:
            with progress() as watch:
                found = onnx_scsp.prune_within(
                    loaded,
                    output,
                    tolerance,
                    config,
                    calibration=data,
                    cache=cache,
                    state=state,
                    plan_out=plan_out,
                    verify_config=checking,
                    choices=choices,
                    machine=machine,
                    gate=measured_gate(gate, threads, provider, checking.input_shapes),
                    progress=watch,
                )
            print_within(found, as_json=json)
            return
        if aim is not None:
            with progress() as watch:
                met = onnx_scsp.prune_to_latency(
                    loaded,
                    output,
                    aim,
                    config,
                    device=device,
                    calibration=data,
                    plan_out=plan_out,
                    verify_config=checking,
                    verified=not no_verify,
                    cache=cache,
                    choices=choices,
                    machine=machine,
                    progress=watch,
                )
            print_latency(met, as_json=json)
            return
        with progress() as watch:
            result = onnx_scsp.prune_gated(
                loaded,
                output,
                config,
                gate=gate,
                threads=threads,
                provider=provider,
                plan_out=plan_out,
                verify_config=checking,
                verified=not no_verify,
                calibration=data,
                cache=cache,
                choices=choices,
                machine=machine,
                progress=watch,
            )
        print_result(result, as_json=json)
