"""Results to stdout, progress to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onnx_scsp.results import PruneResult

_PLAIN_WIDTH = 120


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps(data, indent=1, allow_nan=False))


def print_tables(*tables: RenderableType) -> None:
    """Tables on stdout, at a fixed width where it is no terminal."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
    for table in tables:
        console.print(table)


def print_result(result: PruneResult, *, as_json: bool) -> None:
    """A finished run of `prune` or `apply`."""
    from onnx_scsp.report.pruning import prune_json, prune_tables

    if as_json:
        print_json(prune_json(result))
    else:
        print_tables(*prune_tables(result))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress line on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
