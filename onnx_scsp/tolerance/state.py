"""The file that keeps a search's trials, so that an interrupted one goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnx_scsp import __version__
from onnx_scsp.calibration import CalibrationData
from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import ConfigError, OutputError
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import check_output, write_text
from onnx_scsp.tolerance.limits import Tolerance

SCHEMA = 1


def check_state_path(
    source: Model,
    state: Path,
    output: str | os.PathLike[str],
    plan_out: str | os.PathLike[str] | None,
) -> None:
    """Refuses a place for the state before any work is done.

    Raises:
        OutputError: It cannot be written, or something else goes there.
    """
    check_output(source, state)
    others = [Path(path).resolve() for path in (output, plan_out) if path is not None]
    if state.resolve() in others:
        raise OutputError(f"{state} is named for the state and for another output as well")


def identity(
    source: Model,
    config: PruneConfig,
    tolerance: Tolerance,
    shapes: Mapping[str, tuple[int, ...]],
    parts: Iterable[CalibrationData],
) -> dict[str, Any]:
    """What a figure depends on. How long and how finely is searched may change."""
    options = config.as_dict()
    del options["value"]
    return {
        "version": __version__,
        "model": source.sha256,
        **{f"config {name}": value for name, value in options.items()},
        "metric": tolerance.metric_name,
        "metric key": tolerance.key,
        "max_drop": tolerance.max_drop,
        "max_divergence": tolerance.max_divergence,
        "lowest": tolerance.lowest,
        "input shapes": {name: list(shape) for name, shape in sorted(shapes.items())},
        "calibration": [part.fingerprint() for part in parts],
    }


class Record:
    """Figures by the digest of their cuts, kept in a file where there is one."""

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self._path, self._identity = path, identity
        self._trials: list[dict[str, Any]] = []
        self.original: float | None = None
        if path is not None and path.exists():
            self._read(path)

    @property
    def figures(self) -> dict[str, tuple[float, float]]:
        """Digest of the cuts -> what they come to, and their figure."""
        return {
            entry["cuts"]: (
                float(entry["achieved"]),
                math.inf if entry["figure"] is None else float(entry["figure"]),
            )
            for entry in self._trials
        }

    def add_original(self, figure: float) -> None:
        """Keeps the original's figure."""
        self.original = figure
        self._write()

    def add(self, digest: str, fraction: float, achieved: float, figure: float) -> None:
        """Keeps a trial."""
        known = figure if math.isfinite(figure) else None
        self._trials.append(
            {"fraction": fraction, "achieved": achieved, "figure": known, "cuts": digest}
        )
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        found = {"search": self._identity, "original": self.original, "trials": self._trials}
        text = json.dumps({"schema": SCHEMA, **found}, indent=1, allow_nan=False)
        write_text(text + "\n", self._path)

    def _read(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(data["schema"])
            theirs = dict(data["search"])
            original, trials = data["original"], [_trial_entry(t) for t in data["trials"]]
            if not _is_number(original):
                raise ValueError(original)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"{path} is no state of a search (schema {SCHEMA}); delete it or name another file"
            ) from error
        ours = json.loads(json.dumps(self._identity))
        for name in dict.fromkeys([*ours, *theirs]):
            if ours.get(name) != theirs.get(name):
                raise ConfigError(
                    f"{path} is the state of another search: its {name} is "
                    f"{_spelled(theirs.get(name))}, now it is {_spelled(ours.get(name))}; "
                    "delete it or name another file"
                )
        self.original, self._trials = float(original), trials


def _trial_entry(entry: Any) -> dict[str, Any]:
    figures = entry["fraction"], entry["achieved"]
    if not all(map(_is_number, figures)) or not isinstance(entry["cuts"], str):
        raise ValueError(entry)
    if entry["figure"] is not None and not _is_number(entry["figure"]):
        raise ValueError(entry)
    return dict(entry)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _spelled(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:16]}..."
