"""`retrain`: train while channels go, cut, prove, write."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_scsp.cli.calibration import (
    ImageOptions,
    calibration_source,
    open_source,
)
from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import (
    AlignOpt,
    BudgetOptions,
    CompensateOpt,
    IgnoreOpt,
    JsonOpt,
    MinShareOpt,
    ModelArg,
    OutputOpt,
    SeedOpt,
    ShapeOpt,
    ThreadsOpt,
    input_shapes,
    parsed_align,
)
from onnx_scsp.cli.output import print_json, print_tables
from onnx_scsp.cli.prune import PlanOutOpt
from onnx_scsp.cli.training import (
    DataLimitOpt,
    DataOpt,
    LabelsOpt,
    PlanFileOpt,
    ResumeOpt,
    RunDirOpt,
    SelectOpt,
    TrainingOptions,
)
from onnx_scsp.config import AUTO, PruneConfig
from onnx_scsp.errors import ConfigError

if TYPE_CHECKING:
    from onnx_scsp.retrain import RetrainConfig

NAME = "retrain"


def run(
    model: ModelArg,
    output: OutputOpt,
    data: DataOpt,
    *,
    budget: BudgetOptions,
    plan: PlanFileOpt = None,
    training: TrainingOptions,
    select: SelectOpt = "auto",
    compensate: CompensateOpt = "auto",
    align: AlignOpt = AUTO,
    min_share: MinShareOpt = 0.1,
    ignore: IgnoreOpt = None,
    labels: LabelsOpt = None,
    data_limit: DataLimitOpt = None,
    images: ImageOptions,
    run_dir: RunDirOpt = None,
    resume: ResumeOpt = False,
    seed: SeedOpt = 0,
    plan_out: PlanOutOpt = None,
    input_shape: ShapeOpt = None,
    threads: ThreadsOpt = 2,
    json: JsonOpt = False,
) -> None:
    """Train a network while its channels go, cut it, prove the result, write it."""
    with guarded():
        from onnx_scsp.retrain import RetrainConfig
        from onnx_scsp.retrain.require import require_extra

        config = RetrainConfig(**asdict(training), seed=seed)
        cut = _budget(
            budget,
            plan,
            method=select,
            compensate=compensate,
            align=parsed_align(align),
            min_share=min_share,
            ignore=tuple(ignore or ()),
            seed=seed,
        )
        _check_targets(labels, config)
        source, recipe = calibration_source(data, images)
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
            budget=cut,
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


def _budget(budget: BudgetOptions, plan: Path | None, **options: Any) -> PruneConfig:
    given = budget.given
    if len(given) + (plan is not None) != 1:
        raise ConfigError("give exactly one of --macs, --params, --ratio and --plan")
    target, value = given[0] if given else ("macs", PruneConfig().value)
    return PruneConfig(target=target, value=value, synthetic=False, **options)


def _check_targets(labels: Path | None, config: RetrainConfig) -> None:
    if labels is None and config.loss:
        raise ConfigError("--loss gets the labels; give --labels")
    if labels is None and not config.distill:
        raise ConfigError("there is nothing to learn from; give --labels, --distill, or both")
    if config.feature_weight and not config.distill:
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
