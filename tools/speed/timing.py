"""All files of one network in one interleaved run, the dense one twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.graph.session import open_session, run_session
from onnx_scsp.measure.interleave import interleave
from onnx_scsp.measure.subject import make_subject
from tools.speed.catalog import AGAIN, DENSE


def time_files(
    files: dict[str, str], *, threads: int, rounds: int, seed: int = 0
) -> dict[str, Any]:
    """Times files that take the same inputs.

    Args:
        files: Name -> path; one of them is the dense network.
        threads: Intra-op threads.
        rounds: Timed rounds.
        seed: Of inputs and order.

    Returns:
        Milliseconds of every round by name, and how the warm-up went.
    """
    dense = Path(files[DENSE])
    feeds = make_subject(dense, dense, seed=seed).feeds
    named = {**files, AGAIN: files[DENSE]}
    sessions = [open_session(Path(path), threads=threads) for path in named.values()]
    expected = [value.shape for value in run_session(sessions[0], feeds).values()]
    for name, session in zip(named, sessions, strict=True):
        found = [value.shape for value in run_session(session, feeds).values()]
        if found != expected:
            raise ValueError(f"{name}: outputs are {found}, those of the dense file {expected}")
    runs = [lambda s=session: run_session(s, feeds) for session in sessions]
    timed = interleave(runs, rounds, seed=seed)
    columns = np.round(timed.seconds.T * 1e3, 4)
    return {
        "outcome": "ok",
        "warm_up": timed.warm_up,
        "steady": timed.steady,
        "rounds_ms": {name: row.tolist() for name, row in zip(named, columns, strict=True)},
    }
