"""Pruned models that several tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

import onnx_scsp
from graph.rich import odd_model, overridable, rich_model
from graph.small import write

HALF = onnx_scsp.PruneConfig(target="ratio", value=0.5)


@dataclass(frozen=True)
class Pair:
    """A file and what pruning made of it."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    source: Path
    output: Path
    result: onnx_scsp.PruneResult


def pruned_pair(folder: Path, proto: onnx.ModelProto, *, verified: bool = True) -> Pair:
    source, output = write(proto, folder / "in.onnx"), folder / "out.onnx"
    result = onnx_scsp.prune(source, output, HALF, verified=verified)
    after = onnx.ModelProto()
    after.ParseFromString(output.read_bytes())
    return Pair(proto, after, source, output, result)


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pruned_pair(tmp_path_factory.mktemp("rich"), rich_model())


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """No runtime knows its custom operator, so nothing is run."""
    return pruned_pair(tmp_path_factory.mktemp("odd"), odd_model(), verified=False)


@pytest.fixture(scope="session", params=[3, 8])
def listed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Initializers that are graph inputs as well: all of them (IR 3), some of them (IR 8)."""
    return pruned_pair(tmp_path_factory.mktemp("listed"), overridable(request.param))
