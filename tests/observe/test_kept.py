"""Evidence kept in a folder: read back as it was, and only where nothing it depends on changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compensate.nets import coupling_of, images
from nets import NETS

from onnx_scsp import calibrated
from onnx_scsp.calibration import open_calibration
from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import ConfigError, OutputError
from onnx_scsp.observe import Evidence, PoolEvidence
from onnx_scsp.observe.kept import place_of, read_evidence, write_evidence
from onnx_scsp.plan import plan_cuts

POOLS = [np.array([0, 1, 2]), np.array([3])]


def some_evidence() -> Evidence:
    rng = np.random.default_rng(0)
    return Evidence((PoolEvidence(np.array([2, 0, 1]), rng.random(4), rng.random(4)), None))


def test_evidence_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = place_of(tmp_path / "new", {"seed": 1}, POOLS)
    assert read_evidence(path, POOLS) is None
    write_evidence(path, some_evidence())
    found = read_evidence(path, POOLS)
    assert found is not None
    (first, second), expected = found.pools, some_evidence().pools[0]
    assert second is None
    assert first is not None
    assert expected is not None
    for name in ("order", "local", "damage"):
        assert getattr(first, name).tobytes() == getattr(expected, name).tobytes()


def test_the_place_depends_on_the_identity_and_on_every_pool(tmp_path: Path) -> None:
    places = {
        place_of(tmp_path, {"seed": 1}, POOLS),
        place_of(tmp_path, {"seed": 2}, POOLS),
        place_of(tmp_path, {"seed": 1}, [np.array([0, 1]), np.array([2, 3])]),
        place_of(tmp_path, {"seed": 1}, POOLS[:1]),
    }
    assert len(places) == 4
    assert place_of(tmp_path, {"seed": 1}, [pool.copy() for pool in POOLS]) in places


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[2, 0, 1]", "[2, 0, 0]"),
        ("[2, 0, 1]", "[2, 0]"),
        ('"schema": 2', '"schema": 9'),
        ('"local": [', '"local": [NaN, '),
        ("}", ""),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = place_of(tmp_path, {}, POOLS)
    write_evidence(path, some_evidence())
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=r"is damaged .*; delete it"):
        read_evidence(path, POOLS)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        place_of(tmp_path / "file" / "folder", {}, POOLS)


def plan_with(
    cache: Path, value: float, seed: int = 0, shift: float = 0.0, criterion: str = "energy"
) -> Any:
    coupling = coupling_of(NETS["residual_projection"]())
    (name,) = coupling.walk.graph.inputs
    dims = coupling.model.proto.graph.input[0].type.tensor_type.shape.dim
    batches = images(32, *(dim.dim_value for dim in dims[1:]))
    array = np.concatenate([batch[name] for batch in batches]) + np.float32(shift)
    path = cache.parent / "x.npy"
    np.save(path, array)
    data = open_calibration(str(path), coupling.model)
    config = PruneConfig(value=value, align=1, seed=seed, criterion=criterion)
    inputs = calibrated.passes(coupling, data, config)
    assert inputs is not None
    observe = calibrated.observer(
        coupling, inputs, config, threads=1, progress=lambda *_: None, cache=cache
    )
    return plan_cuts(coupling, config, observe=observe)


def test_a_second_budget_observes_nothing_and_plans_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = plan_with(tmp_path / "other", 0.4).cuts
    plan_with(tmp_path / "cache", 0.6)
    monkeypatch.setattr(calibrated, "gather_evidence", None)  # whoever observes, fails
    assert plan_with(tmp_path / "cache", 0.4).cuts == alone


@pytest.mark.parametrize("change", [{"seed": 1}, {"shift": 0.5}])
def test_other_inputs_or_another_seed_are_observed_anew(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    plan_with(tmp_path / "cache", 0.6)
    plan_with(tmp_path / "cache", 0.6, **change)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_criteria_read_of_single_units_is_not_kept(tmp_path: Path) -> None:
    plan_with(tmp_path / "cache", 0.6, criterion="reap")
    assert not (tmp_path / "cache").exists()
