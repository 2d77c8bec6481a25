"""`inspect`: chains, groups, what is not prunable and why, the floor of reachable MACs."""

from __future__ import annotations

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import IgnoreOpt, JsonOpt, ModelArg, ShapeOpt, input_shapes
from onnx_scsp.cli.output import print_json, print_tables

NAME = "inspect"


def run(
    model: ModelArg, ignore: IgnoreOpt = None, input_shape: ShapeOpt = None, json: JsonOpt = False
) -> None:
    """Show which channels go together, which stay, and why."""
    with guarded():
        import onnx_scsp
        from onnx_scsp.report.inspection import inspection_json, inspection_tables

        found = onnx_scsp.find_groups(
            onnx_scsp.load(model),
            ignore=tuple(ignore or ()),
            input_shapes=input_shapes(input_shape),
        )
        if json:
            print_json(inspection_json(found))
        else:
            print_tables(*inspection_tables(found, str(model)))
