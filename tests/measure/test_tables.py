"""Measuring, keeping and finding machine tables; no test is about what a timing says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_scsp.config import AUTO
from onnx_scsp.errors import ConfigError, OutputError
from onnx_scsp.graph.session import open_session, run_session
from onnx_scsp.measure.probes import input_shape, probe
from onnx_scsp.measure.staircases import measure_table, measured_widths
from onnx_scsp.measure.store import (
    cache_folder,
    find_table,
    machine_for,
    read_table,
    store_table,
    table_path,
)
from onnx_scsp.timing import KINDS, shipped_table, table_from_json, table_to_json


def counting(runs: Sequence[Callable[[], object]]) -> tuple[np.ndarray, np.ndarray]:
    """The i-th thing takes 1 + i hundredths of a millisecond; each is run once."""
    for run in runs:
        run()
    seconds = (1.0 + 0.01 * np.arange(len(runs))) * 1e-3
    return seconds, seconds * 1.25


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNX_SCSP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- probes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0, 5])
def test_a_probe_is_a_valid_model_that_runs(kind: str, width: int) -> None:
    model = onnx.load_from_string(probe(kind, width))
    onnx.checker.check_model(model, full_check=True)
    x = np.zeros(input_shape(kind), np.float32)
    outputs = run_session(open_session(probe(kind, width)), {"x": x})
    assert len(outputs) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_wider_probe_has_more_weights(kind: str) -> None:
    sizes = [len(probe(kind, width)) for width in (0, 1, 8, 64)]
    assert sizes == sorted(set(sizes))


def test_a_probe_is_the_same_every_time() -> None:
    assert probe("dense", 8) == probe("dense", 8)


# ---- measuring --------------------------------------------------------------------------------


def test_a_table_holds_what_the_timer_says() -> None:
    table = measure_table(timer=counting)
    for kind in KINDS:
        stairs = table.kinds[kind]
        assert stairs.widths == measured_widths(kind)
        assert stairs.base_ms == 1.0
        assert stairs.ms[0] == 1.01
        assert stairs.reference in stairs.widths


def test_a_table_says_where_it_was_measured_and_how_busy_it_was() -> None:
    table = measure_table(timer=counting, threads=1)
    assert table.threads == 1
    assert table.provider == "cpu"
    assert table.processor
    assert table.scatter == 0.25


def test_a_provider_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="provider 'abacus' is not in the installed"):
        measure_table(timer=counting, provider="abacus")


# ---- keeping ----------------------------------------------------------------------------------


def test_a_kept_table_is_found_for_as_many_threads(folder: Path) -> None:
    table = replace(shipped_table(), threads=3, origin="measured")
    path = store_table(table)
    assert path.parent == folder / "tables"
    assert find_table(threads=3).sha256 == table.sha256
    assert find_table(threads=3).origin == "measured"
    assert find_table(threads=4).origin == "shipped"


def test_where_nothing_was_measured_the_shipped_table_serves(folder: Path) -> None:
    assert find_table(threads=1) == shipped_table()
    assert not folder.exists()


def test_a_damaged_kept_table_is_named(folder: Path) -> None:
    path = table_path(1)
    path.parent.mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=path.name):
        find_table(threads=1)


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    folder.write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="tables cannot be made"):
        store_table(shipped_table())


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        read_table(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [
        ("linux", "XDG_CACHE_HOME", ("onnx_scsp",)),
        ("win32", "LOCALAPPDATA", ("onnx_scsp",)),
    ],
)
def test_the_folder_follows_the_platform(
    platform: str,
    variable: str,
    tail: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ONNX_SCSP_CACHE")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path.joinpath(*tail)


def test_on_macos_it_is_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONNX_SCSP_CACHE")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "onnx_scsp"


def test_only_automatic_alignment_asks_for_a_table(folder: Path) -> None:
    table = table_from_json(table_to_json(shipped_table()), "t", origin="a file")
    assert machine_for(4, table, 1) is None
    assert machine_for(AUTO, table, 1) is table
    assert machine_for(AUTO, None, 1) == shipped_table()
