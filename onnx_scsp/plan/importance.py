"""Scores from outside, for the criterion `importance`: what training code knows, a model does not.

A Taylor score, say, |sum over a filter of weight x gradient|, needs gradients; whoever has them
writes one array per weight, one number per channel that it makes, into an `.npz`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.types import FloatArray, Role


def read_importance(path: str | os.PathLike[str]) -> dict[str, FloatArray]:
    """Reads scores.

    Args:
        path: `.npz`; keys are names of weights, values one number per channel.

    Returns:
        Name of the weight -> scores, as stored.

    Raises:
        ConfigError: The file cannot be read.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"--importance {file} cannot be read as .npz") from error
    raise ConfigError(f"--importance {file} holds one array; give an .npz with names of weights")


def check_importance(
    coupling: Coupling, importance: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Checks that scores are one number per channel of the model's weights.

    Args:
        coupling: The model.
        importance: Constant -> scores.

    Returns:
        The same in double precision.

    Raises:
        ConfigError: A score names no constant, or is not one number per channel.
    """
    constants = coupling.walk.constants
    sizes = {
        member.tensor: member.units.shape[-1]
        for group in coupling.map.groups
        for member in group.members
        if member.role is not Role.READS
    }
    found: dict[str, FloatArray] = {}
    for name, array in importance.items():
        if name not in constants:
            raise ConfigError(
                f"--importance scores '{name}', which is no weight of the model; its keys are "
                "names of weights, as in the members of a plan"
            )
        score = np.asarray(array)
        if score.dtype.kind not in "fiu" or score.ndim != 1:
            raise ConfigError(
                f"--importance: '{name}' is {score.dtype} of {score.ndim} axes; give one number "
                "per channel"
            )
        if score.size != sizes.get(name, score.size):
            raise ConfigError(
                f"--importance: '{name}' has {score.size} scores for {sizes[name]} channels"
            )
        if not (np.isfinite(score).all() and (score >= 0).all()):
            raise ConfigError(
                f"--importance: '{name}' has scores that are negative or no finite numbers"
            )
        found[name] = score.astype(np.float64)
    return found
