"""`importance`: scores channels by gradients, for `--importance` of the other verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_scsp.cli.calibration import (
    ImageOptions,
    calibration_source,
    open_source,
)
from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt, ModelArg, OutputOpt, SeedOpt, ShapeOpt, input_shapes
from onnx_scsp.cli.output import print_json, print_tables, progress
from onnx_scsp.cli.training import DataLimitOpt, DataOpt, LabelsOpt, OutputNameOpt

NAME = "importance"

BatchOpt = Annotated[int, typer.Option(min=1, help="Samples per gradient.")]
DrawsOpt = Annotated[
    int, typer.Option(min=1, help="Random projections of the outputs per batch, without labels.")
]


def run(
    model: ModelArg,
    output: OutputOpt,
    data: DataOpt,
    *,
    labels: LabelsOpt = None,
    output_name: OutputNameOpt = "",
    data_limit: DataLimitOpt = None,
    images: ImageOptions,
    batch: BatchOpt = 64,
    draws: DrawsOpt = 4,
    seed: SeedOpt = 0,
    input_shape: ShapeOpt = None,
    json: JsonOpt = False,
) -> None:
    """Score channels by gradients on samples: Taylor scores, or by the outputs without labels."""
    with guarded():
        source, recipe = calibration_source(data, images)
        shapes = input_shapes(input_shape)
        from onnx_scsp.retrain.require import require_extra

        require_extra()
        import onnx_scsp
        from onnx_scsp.evaluate import read_labels
        from onnx_scsp.retrain.importance import (
            check_target,
            gradient_importance,
            write_importance,
        )

        check_target(output)
        loaded = onnx_scsp.load(model)
        samples = open_source((source, recipe), loaded, data_limit, seed)
        assert samples is not None  # --data is not optional
        with progress() as watch:
            scores = gradient_importance(
                loaded,
                samples,
                None if labels is None else read_labels(labels, samples),
                output_name=output_name,
                input_shapes=shapes,
                batch=batch,
                draws=draws,
                seed=seed,
                progress=watch,
            )
        write_importance(scores, output)
        if json:
            print_json({"output": str(output), "weights": {n: len(s) for n, s in scores.items()}})
        else:
            channels = sum(len(found) for found in scores.values())
            print_tables(
                f"{output}: {channels} channels of {len(scores)} weights scored; go by it with "
                f"--method importance --importance {output}"
            )
