"""Assembles the verbs. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import sys

import typer

from onnx_scsp.cli import (
    apply,
    bench,
    evaluate,
    export_torch,
    importance,
    inspect,
    ops,
    plan,
    profile,
    prune,
    retrain,
    verify,
)
from onnx_scsp.cli.records import flattened

app = typer.Typer(
    name="onnx-scsp",
    help="Structured channel pruning of exported CNNs: .onnx in, smaller .onnx out, proved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (
    inspect,
    plan,
    apply,
    prune,
    retrain,
    verify,
    evaluate,
    bench,
    profile,
    importance,
    export_torch,
    ops,
):
    app.command(module.NAME)(flattened(module.run))


def main() -> None:
    """Entry point of the `onnx-scsp` command."""
    app(prog_name="onnx-scsp")
    sys.exit(0)


if __name__ == "__main__":
    main()
