"""Methods on tables made by hand: what falls first, what is worth how much."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from onnx_scsp.describe import CRITERIA
from onnx_scsp.plan import METHODS
from plan.tables import blobs, directions, kept, table, tools

CLUSTERING = ["one-per-cluster", "scsp"]
INFORMED = [*CLUSTERING, "folding", *CRITERIA]


def with_clones() -> np.ndarray:
    """Four directions of falling size, each three times: rows 0-2, 3-5, 6-8, 9-11."""
    sizes = np.array([4.0, 3.0, 2.0, 1.0])
    return np.repeat(directions(4) * sizes[:, None], 3, axis=0)


# ---- every method ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 5, 11, 12])
def test_a_pick_has_k_different_rows_in_order(method: str, k: int) -> None:
    found = kept(method, table(np.random.default_rng(0).standard_normal((12, 6))), k)
    assert found == sorted(set(found))
    assert len(found) == k
    assert 0 <= found[0] <= found[-1] < 12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_a_curve_never_rises_and_ends_at_zero(method: str, seed: int) -> None:
    units = table(np.random.default_rng(seed).standard_normal((15, 6)))
    curve = METHODS[method].curve(units, tools())
    assert curve.shape == (16,)
    assert (np.diff(curve) <= 1e-12).all()
    assert curve[-1] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_starts_above_zero(method: str) -> None:
    units = table(np.random.default_rng(0).standard_normal((9, 6)))
    assert METHODS[method].curve(units, tools())[0] > 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_groups_are_handled(method: str, n: int) -> None:
    units = table(np.random.default_rng(0).standard_normal((n, 4)))
    assert METHODS[method].curve(units, tools()).shape == (n + 1,)
    assert len(kept(method, units, 1)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_group_without_any_signal_is_handled(method: str) -> None:
    units = table(np.zeros((5, 4)))
    assert np.isfinite(METHODS[method].curve(units, tools())).all()
    assert len(kept(method, units, 2)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_pick(method: str) -> None:
    units = table(np.random.default_rng(0).standard_normal((20, 6)))
    assert kept(method, units, 7) == kept(method, units, 7)


@pytest.mark.parametrize("method", INFORMED)
def test_dead_units_go_first(method: str) -> None:
    rows = np.random.default_rng(0).standard_normal((10, 12))
    rows[[2, 7]] = 0.0
    assert not {2, 7} & set(kept(method, table(rows), 8))


@pytest.mark.parametrize("method", INFORMED)
def test_dead_units_are_free(method: str) -> None:
    rows = np.random.default_rng(0).standard_normal((10, 12))
    rows[[2, 7]] = 0.0
    curve = METHODS[method].curve(table(rows), tools())
    assert curve[8] == pytest.approx(0.0, abs=1e-12)
    assert curve[7] > 1e-6


@pytest.mark.parametrize("method", CLUSTERING)
def test_clones_fall_together(method: str) -> None:
    rows = kept(method, table(with_clones()), 4)
    assert sorted(row // 3 for row in rows) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", CLUSTERING)
def test_clones_are_free(method: str) -> None:
    curve = METHODS[method].curve(table(with_clones()), tools())
    assert np.allclose(curve[4:], 0.0, atol=1e-12)
    assert curve[3] > 1e-6


@pytest.mark.parametrize("method", CLUSTERING)
def test_a_multiple_of_a_filter_is_a_clone_too(method: str) -> None:
    rows = np.repeat(directions(4), 2, axis=0) * np.tile([1.0, 2.5], 4)[:, None]
    assert sorted(row // 2 for row in kept(method, table(rows), 4)) == [0, 1, 2, 3]


# ---- one-per-cluster ------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(10, 10, 10), (8, 15, 9, 11), (9,) * 6])
def test_one_unit_of_each_planted_cluster_stays(sizes: tuple[int, ...]) -> None:
    rows, labels = blobs(sizes)
    found = kept("one-per-cluster", table(rows), len(sizes))
    assert sorted(labels[found].tolist()) == list(range(len(sizes)))


@pytest.mark.parametrize("count", [2, 4, 6])
def test_the_worth_of_a_cluster_drops_after_the_planted_number(count: int) -> None:
    curve = METHODS["one-per-cluster"].curve(table(blobs((10,) * count)[0]), tools())
    worth = -np.diff(curve)
    assert int(np.argmax(worth[:-1] - worth[1:])) + 1 == count


def test_the_worthiest_unit_of_a_cluster_stays() -> None:
    rows, labels = blobs((9, 9))
    readers = np.ones(18)
    readers[[4, 13]] = 5.0
    assert labels[[4, 13]].tolist() == [0, 1]
    assert kept("one-per-cluster", table(rows, readers), 2) == [4, 13]


def test_dead_units_stay_only_when_nothing_else_is_left() -> None:
    rows = np.concatenate([np.zeros((3, 24)), directions(3)])
    assert set(kept("one-per-cluster", table(rows), 4)) > {3, 4, 5}


def test_a_cluster_method_names_the_cluster_of_every_living_row() -> None:
    rows = np.concatenate([np.zeros((1, 24)), blobs((9, 9))[0]])
    clusters = METHODS["one-per-cluster"].pick(table(rows), 2, tools()).clusters
    assert clusters is not None
    assert clusters[0] == -1
    assert len(set(clusters[1:10].tolist())) == len(set(clusters[10:].tolist())) == 1


def test_eigenvalues_decide_between_groups_without_regard_to_cost() -> None:
    assert not METHODS["one-per-cluster"].per_cost
    assert METHODS["scsp"].per_cost


# ---- scsp -----------------------------------------------------------------------------------


def test_the_least_efficient_cluster_goes_first() -> None:
    rows, labels = blobs((10, 10, 10))
    readers = np.where(labels == 1, 0.01, 1.0)
    found = kept("scsp", table(rows, readers), 20)
    assert set(labels[found].tolist()) == {0, 2}


def test_clusters_go_in_the_order_of_their_efficiency() -> None:
    rows, labels = blobs((10, 10, 10))
    readers = np.choose(labels, [1.0, 0.01, 0.1])
    found = kept("scsp", table(rows, readers), 10)
    assert set(labels[found].tolist()) == {0}


def test_within_a_cluster_the_weakest_unit_goes_first() -> None:
    rows, labels = blobs((10, 10), noise=0.001)
    readers = np.where(labels == 1, 0.1, 1.0)
    readers[14] = 0.05
    assert set(range(20)) - set(kept("scsp", table(rows, readers), 19)) == {14}


def test_picks_of_scsp_are_nested() -> None:
    units = table(np.random.default_rng(0).standard_normal((16, 8)))
    picks = [set(kept("scsp", units, k)) for k in range(1, 17)]
    assert all(small < large for small, large in pairwise(picks))


# ---- baselines ------------------------------------------------------------------------------


def test_l2_keeps_the_largest_filters() -> None:
    rows = directions(6) * np.array([3.0, 1.0, 6.0, 2.0, 5.0, 4.0])[:, None]
    assert kept("l2", table(rows), 3) == [2, 4, 5]


def test_l2_does_not_look_at_readers() -> None:
    rows = directions(6) * np.arange(1.0, 7.0)[:, None]
    readers = np.array([100.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert kept("l2", table(rows, readers), 3) == [3, 4, 5]


def test_the_l2_curve_is_the_share_of_squared_norm_that_goes() -> None:
    rows = directions(3) * np.array([1.0, 2.0, 3.0])[:, None]
    curve = METHODS["l2"].curve(table(rows), tools())
    assert np.allclose(curve, [1.0, 5.0 / 14.0, 1.0 / 14.0, 0.0])


def test_random_picks_differ_between_seeds() -> None:
    units = table(directions(20))
    picks = {tuple(METHODS["random"].pick(units, 10, tools(seed)).keep) for seed in range(6)}
    assert len(picks) == 6
