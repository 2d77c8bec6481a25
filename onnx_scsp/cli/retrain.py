"""`retrain`: train while channels go, cut, prove, write."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_scsp.cli.calibration import (
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
    AlignOpt,
    CompensateOpt,
    IgnoreOpt,
    JsonOpt,
    MacsOpt,
    MinShareOpt,
    ModelArg,
    OutputOpt,
    ParamsOpt,
    RatioOpt,
    SeedOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
    parsed_align,
)
from onnx_scsp.cli.output import print_json, print_tables
from onnx_scsp.cli.prune import PlanOutOpt
from onnx_scsp.cli.training import (
    AcceleratorOpt,
    AccumulateOpt,
    AugmentOpt,
    BatchOpt,
    CheckpointOpt,
    ClipOpt,
    DataLimitOpt,
    DataOpt,
    DistillOpt,
    DistillWeightOpt,
    EmaOpt,
    EpochsOpt,
    FeatureWeightOpt,
    HeldOutOpt,
    LabelsOpt,
    LossOpt,
    MomentumOpt,
    NormOpt,
    OptimiserOpt,
    OutputNameOpt,
    PatienceOpt,
    PenaltyOpt,
    PenaltyWeightOpt,
    PlanFileOpt,
    PrecisionOpt,
    RateOpt,
    RatesOpt,
    ResumeOpt,
    RunDirOpt,
    ScheduleOpt,
    SelectOpt,
    SettleOpt,
    TemperatureOpt,
    WarmUpOpt,
    WeightDecayOpt,
)
from onnx_scsp.config import AUTO, PruneConfig
from onnx_scsp.errors import ConfigError

NAME = "retrain"


def run(
    model: ModelArg,
    output: OutputOpt,
    data: DataOpt,
    macs: MacsOpt = None,
    params: ParamsOpt = None,
    ratio: RatioOpt = None,
    plan: PlanFileOpt = None,
    method: ScheduleOpt = "scsp",
    epochs: EpochsOpt = 5,
    settle: SettleOpt = None,
    select: SelectOpt = "auto",
    compensate: CompensateOpt = "auto",
    align: AlignOpt = AUTO,
    min_share: MinShareOpt = 0.1,
    ignore: IgnoreOpt = None,
    labels: LabelsOpt = None,
    distill: DistillOpt = False,
    distill_weight: DistillWeightOpt = 0.5,
    temperature: TemperatureOpt = 4.0,
    feature_weight: FeatureWeightOpt = 0.0,
    loss: LossOpt = "",
    output_name: OutputNameOpt = "",
    held_out: HeldOutOpt = 0.1,
    augment: AugmentOpt = "",
    penalty: PenaltyOpt = "none",
    penalty_weight: PenaltyWeightOpt = 1e-4,
    data_limit: DataLimitOpt = None,
    preprocess: PreprocessOpt = None,
    size: SizeOpt = None,
    resize: ResizeOpt = None,
    layout: LayoutOpt = None,
    colour: ColourOpt = None,
    scale: ScaleOpt = None,
    mean: MeanOpt = None,
    std: StdOpt = None,
    batch: BatchOpt = 128,
    accumulate: AccumulateOpt = 1,
    optimiser: OptimiserOpt = "sgd",
    rate: RateOpt = None,
    rates: RatesOpt = "cosine",
    warm_up: WarmUpOpt = 0.05,
    momentum: MomentumOpt = 0.9,
    weight_decay: WeightDecayOpt = 1e-4,
    clip: ClipOpt = 0.0,
    ema: EmaOpt = 0.0,
    precision: PrecisionOpt = "32",
    norm: NormOpt = "auto",
    patience: PatienceOpt = 0,
    accelerator: AcceleratorOpt = "auto",
    run_dir: RunDirOpt = None,
    resume: ResumeOpt = False,
    checkpoint_steps: CheckpointOpt = 0,
    seed: SeedOpt = 0,
    plan_out: PlanOutOpt = None,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    json: JsonOpt = False,
) -> None:
    """Train a network while its channels go, cut it, prove the result, write it."""
    given = dict(locals())
    with guarded():
        from onnx_scsp.retrain import RetrainConfig
        from onnx_scsp.retrain.require import require_extra

        names = RetrainConfig.__dataclass_fields__
        config = RetrainConfig(**{name: given[name] for name in names})
        budget = _budget(
            {"macs": macs, "params": params, "ratio": ratio},
            plan,
            method=select,
            compensate=compensate,
            align=parsed_align(align),
            min_share=min_share,
            ignore=tuple(ignore or ()),
            seed=seed,
        )
        _check_targets(labels, loss, feature_weight, distill=distill)
        source, recipe = calibration_source(
            data,
            preprocess,
            size=size,
            resize=resize,
            layout=layout,
            colour=colour,
            scale=scale,
            mean=mean,
            std=std,
        )
        shapes = input_shapes(input_shape)
        require_extra()
        import onnx_scsp
        from onnx_scsp.evaluate import read_labels
        from onnx_scsp.report.retraining import retrain_json, retrain_tables
        from onnx_scsp.retrain import soft_retrain

        loaded = onnx_scsp.load(model)
        samples = open_source((source, recipe), loaded, data_limit, seed)
        assert samples is not None  # --data is not optional
        result = soft_retrain(
            loaded,
            output,
            samples,
            config,
            budget=budget,
            plan=None if plan is None else onnx_scsp.read_plan(plan),
            labels=None if labels is None else read_labels(labels, samples),
            run_dir=run_dir,
            resume=resume,
            plan_out=plan_out,
            verify_config=onnx_scsp.VerifyConfig(threads=threads, input_shapes=shapes),
            watch=_print_epoch,
        )
        if result is None:
            return
        if json:
            print_json(retrain_json(result))
        else:
            print_tables(*retrain_tables(result))


def _budget(budgets: dict[str, float | None], plan: Path | None, **options: Any) -> PruneConfig:
    given = [(name, value) for name, value in budgets.items() if value is not None]
    if len(given) + (plan is not None) != 1:
        raise ConfigError("give exactly one of --macs, --params, --ratio and --plan")
    target, value = given[0] if given else ("macs", PruneConfig().value)
    return PruneConfig(target=target, value=value, synthetic=False, **options)


def _check_targets(labels: Path | None, loss: str, features: float, *, distill: bool) -> None:
    if labels is None and loss:
        raise ConfigError("--loss gets the labels; give --labels")
    if labels is None and not distill:
        raise ConfigError("there is nothing to learn from; give --labels, --distill, or both")
    if features and not distill:
        raise ConfigError("--feature-weight compares with the original; give --distill")


def _print_epoch(record: Mapping[str, Any]) -> None:
    """One line per epoch on stderr."""
    parts = [f"epoch {record['epoch']}", f"loss {record['loss']:.4f}"]
    if record.get("metric") is not None:
        parts.append(f"metric {record['metric']:.4f}")
        if record["metric_cut"] != record["metric"]:
            parts.append(f"as cut {record['metric_cut']:.4f}")
    parts.append(f"MACs left {record['macs']:.1%}")
    kept = record["survivors"]
    parts.append("units " + " ".join(str(count) for count in kept.values()))
    text = ", ".join(parts)
    if sys.stderr.isatty():
        text = text[: max(os.get_terminal_size(sys.stderr.fileno()).columns - 1, 40)]
    print(text, file=sys.stderr, flush=True)
