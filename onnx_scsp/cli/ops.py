"""`ops`: the operator table, generated from the rules."""

from __future__ import annotations

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt
from onnx_scsp.cli.output import print_json, print_tables

NAME = "ops"


def run(json: JsonOpt = False) -> None:
    """List the operators that have a rule."""
    with guarded():
        import onnx_scsp
        from onnx_scsp.report.operators import operators_json, operators_table

        if json:
            print_json(operators_json(onnx_scsp.RULES))
        else:
            print_tables(operators_table(onnx_scsp.RULES))
