"""Values put aside wait in memory up to a limit, and on disk beyond it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from onnx_scsp.compensate.segments import Shelf

Values = dict[str, np.ndarray]
BIG = 1 << 30


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def arrays(count: int, size: int = 1000) -> Values:
    rng = np.random.default_rng(0)
    return {f"v{i}": rng.standard_normal(size).astype(np.float32) for i in range(count)}


def on_disk(folder: Path) -> int:
    return len(list(folder.rglob("*.npy")))


def test_what_was_put_aside_comes_back_from_memory_and_from_disk(scratch: Path) -> None:
    values = arrays(5)
    with Shelf(12_000) as shelf:  # three arrays of 4,000 bytes
        shelf.put(shelf.add_batch(), values)
        assert on_disk(scratch) == 2
        found = shelf.get(0, list(values))
        for name, array in values.items():
            np.testing.assert_array_equal(found[name], array)
    assert list(scratch.iterdir()) == []


def test_memory_stays_below_the_limit_whatever_comes_and_goes(scratch: Path) -> None:
    rng = np.random.default_rng(0)
    with Shelf(10_000) as shelf:
        held: dict[tuple[int, str], np.ndarray] = {}
        for _ in range(4):
            shelf.add_batch()
        for step in range(200):
            batch, name = int(rng.integers(4)), f"v{rng.integers(6)}"
            if rng.random() < 0.3:
                alive = {n for b, n in held if b == batch and n != name}
                shelf.forget(batch, alive)
                held.pop((batch, name), None)
            else:
                held[batch, name] = np.full(int(rng.integers(1, 1500)), step, np.float32)
                shelf.put(batch, {name: held[batch, name]})
            total = sum(array.nbytes for array in held.values())
            stored = [np.load(file, mmap_mode="r").nbytes for file in scratch.rglob("*.npy")]
            assert total - sum(stored) <= 10_000
        for (batch, name), array in held.items():
            np.testing.assert_array_equal(shelf.get(batch, [name])[name], array)


def test_forgotten_values_leave_the_disk_and_the_memory(scratch: Path) -> None:
    with Shelf(4_000) as shelf:
        for _ in range(2):
            shelf.put(shelf.add_batch(), arrays(3))
        assert on_disk(scratch) == 5
        shelf.forget(0, {"v1"})
        shelf.forget(1, set())
        assert on_disk(scratch) == 1
        assert list(shelf.get(0, ["v0", "v1", "v2"])) == ["v1"]
        shelf.put(1, {"new": arrays(1)["v0"]})  # there is room in memory again
        assert on_disk(scratch) == 1


def test_a_new_value_of_a_name_takes_the_place_of_the_old(scratch: Path) -> None:
    with Shelf(0) as shelf:
        shelf.put(shelf.add_batch(), {"v": np.zeros(3)})
        shelf.put(0, {"v": np.ones(4)})
        assert on_disk(scratch) == 1
        np.testing.assert_array_equal(shelf.get(0, ["v"])["v"], np.ones(4))


def test_batches_are_kept_apart() -> None:
    with Shelf(BIG) as shelf:
        for value in (1.0, 2.0):
            shelf.put(shelf.add_batch(), {"v": np.array([value])})
        assert len(shelf) == 2
        assert [float(shelf.get(i, ["v"])["v"][0]) for i in range(2)] == [1.0, 2.0]
        assert shelf.get(0, ["nothing"]) == {}


def test_the_folder_goes_when_something_fails(scratch: Path) -> None:
    with pytest.raises(RuntimeError), Shelf(0) as shelf:
        shelf.put(shelf.add_batch(), arrays(2))
        assert on_disk(scratch) == 2
        raise RuntimeError
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    [np.float32(3.5).reshape(()), np.arange(6, dtype=np.int64).reshape(2, 3).T,
     np.array([True, False]), np.zeros((0, 3), np.float16)],
)  # fmt: skip
def test_every_kind_of_array_survives_the_disk(value: np.ndarray) -> None:
    with Shelf(0) as shelf:
        shelf.put(shelf.add_batch(), {"v": value})
        found = shelf.get(0, ["v"])["v"]
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(found, value)
