"""Evidence kept in a folder: a second budget on the same model and inputs starts at the planning.

What was observed depends on the model, the inputs and a few options, not on the budget. A file is
named after a hash of all of these, so that nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.errors import ConfigError, OutputError
from onnx_scsp.graph.save import write_text
from onnx_scsp.observe.evidence import Evidence, PoolEvidence
from onnx_scsp.types import IntArray

SCHEMA = 2


def place_of(folder: Path, identity: Mapping[str, Any], pools: Sequence[IntArray]) -> Path:
    """Where evidence for these pools is kept.

    Args:
        folder: The folder; made if it is not there.
        identity: JSON-ready, whatever else the evidence depends on.
        pools: For each pool the global numbers of its units.

    Returns:
        A path in the folder, which need not exist.

    Raises:
        OutputError: The folder cannot be made.
    """
    found = hashlib.sha256(json.dumps([SCHEMA, identity], sort_keys=True).encode())
    for units in pools:
        found.update(np.asarray([units.size, *units.tolist()], "<i8").tobytes())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
    return folder / f"evidence-{found.hexdigest()[:32]}.json"


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Keeps evidence.

    Raises:
        OutputError: The file cannot be written.
    """
    pools = [
        None
        if pool is None
        else {
            "order": pool.order.tolist(),
            "local": pool.local.tolist(),
            "damage": pool.damage.tolist(),
        }
        for pool in evidence.pools
    ]
    write_text(json.dumps({"schema": SCHEMA, "pools": pools}) + "\n", path)


def read_evidence(path: Path, pools: Sequence[IntArray]) -> Evidence | None:
    """Evidence that was kept, None where there is none yet.

    Raises:
        ConfigError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = data["pools"]
        if data["schema"] != SCHEMA or len(entries) != len(pools):
            raise ValueError("another schema")
        return Evidence(
            tuple(
                None if entry is None else _pool(entry, units.size)
                for entry, units in zip(entries, pools, strict=True)
            )
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it") from error


def _pool(entry: Any, size: int) -> PoolEvidence:
    order = np.array(entry["order"], np.int64)
    local, damage = (np.array(entry[name], np.float64) for name in ("local", "damage"))
    if sorted(order.tolist()) != list(range(size)) or not (
        local.shape == damage.shape == (size + 1,)
        and np.isfinite(local).all()
        and np.isfinite(damage).all()
    ):
        raise ValueError("a pool does not fit the model")
    return PoolEvidence(order, local, damage)
