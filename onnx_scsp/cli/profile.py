"""`profile`: time small networks on this machine, and keep what their widths cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt, ProviderOpt, ThreadsOpt
from onnx_scsp.cli.output import print_tables, progress
from onnx_scsp.errors import ConfigError

NAME = "profile"

TableOutOpt = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Also write the table here, as .json or, for a spreadsheet, .csv."
    ),
]
ShowOpt = Annotated[
    bool, typer.Option("--show", help="Measure nothing; show the table that is in use.")
]


def run(
    threads: ThreadsOpt = 2,
    provider: ProviderOpt = "cpu",
    output: TableOutOpt = None,
    show: ShowOpt = False,
    json: JsonOpt = False,
) -> None:
    """Measure which channel counts onnxruntime is fast at here; --align auto goes by it."""
    with guarded():
        from onnx_scsp.graph.save import write_text
        from onnx_scsp.measure.staircases import measure_table
        from onnx_scsp.measure.store import find_table, store_table
        from onnx_scsp.report.machine import machine_csv, machine_tables
        from onnx_scsp.timing import table_to_json

        if output is not None and output.suffix.lower() not in (".json", ".csv"):
            raise ConfigError(f"{output} is neither .json nor .csv")
        stored = None
        if show:
            table = find_table(threads=threads, provider=provider)
        else:
            with progress() as watch:
                table = measure_table(threads=threads, provider=provider, progress=watch)
            stored = store_table(table)
        if output is not None:
            is_csv = output.suffix.lower() == ".csv"
            write_text(machine_csv(table) if is_csv else table_to_json(table), output)
        if json:
            print(table_to_json(table), end="")
        else:
            print_tables(*machine_tables(table, stored))
