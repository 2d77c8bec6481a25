"""The k-means baseline."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_scsp.partition import CLUSTERERS, kmeans_clusters, kmeans_rows
from partition.test_spectral import gram, planted, same


@pytest.mark.parametrize("seed", range(3))
def test_well_separated_blobs_are_found(seed: int) -> None:
    rows, labels = planted((9, 20, 12), seed=seed)
    assert same(kmeans_clusters(gram(rows), 3).labels, labels)


def test_more_clusters_than_distinct_units_are_not_invented() -> None:
    rows = np.repeat(np.eye(3), 4, axis=0)
    assert kmeans_clusters(gram(rows), 8).k == 3


@pytest.mark.parametrize("k", [1, 3, 10])
def test_duplicates_share_a_cluster(k: int) -> None:
    rows = np.random.default_rng(0).standard_normal((10, 12))
    labels = kmeans_clusters(gram(np.concatenate([rows, rows])), k).labels
    assert np.array_equal(labels[:10], labels[10:])


def test_k_of_n_keeps_distinct_units_apart() -> None:
    assert kmeans_clusters(gram(np.eye(6)), 6).k == 6


def test_zero_vectors_are_accepted() -> None:
    assert kmeans_clusters(np.zeros((4, 4)), 2).k == 1


def test_a_single_unit_is_one_cluster() -> None:
    assert kmeans_clusters(np.array([[3.0]]), 1).labels.tolist() == [0]


def test_the_same_input_gives_the_same_labels() -> None:
    rows = np.random.default_rng(3).standard_normal((40, 8))
    first, second = (kmeans_clusters(gram(rows), 7).labels for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", CLUSTERERS)
def test_every_clusterer_of_the_table_gives_labels_without_gaps(name: str) -> None:
    part = CLUSTERERS[name](gram(np.random.default_rng(0).standard_normal((20, 6))), 5)
    assert sorted(set(part.labels.tolist())) == list(range(part.k))


def test_the_table_cannot_be_changed_in_place() -> None:
    with pytest.raises(TypeError):
        CLUSTERERS["mine"] = kmeans_clusters  # type: ignore[index]


# ---- rows as long as they are -----------------------------------------------------------------


def test_filters_of_one_direction_and_unlike_length_are_kept_apart() -> None:
    rows = np.array([[1.0, 0.0], [1.1, 0.0], [9.0, 0.0], [9.1, 0.0]])
    assert same(kmeans_rows(gram(rows), 2).labels, np.array([0, 0, 1, 1]))
    assert kmeans_clusters(gram(rows), 2).k == 1  # one direction


@pytest.mark.parametrize("seed", range(3))
def test_planted_blobs_are_found_by_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), 6)
    rows = 5 * rng.standard_normal((4, 10))[labels] + 0.1 * rng.standard_normal((24, 10))
    assert same(kmeans_rows(gram(rows), 4).labels, labels)


@pytest.mark.parametrize("k", [1, 4, 8])
def test_equal_rows_share_a_cluster(k: int) -> None:
    rows = np.random.default_rng(0).standard_normal((8, 5))
    labels = kmeans_rows(gram(np.concatenate([rows, rows])), k).labels
    assert np.array_equal(labels[:8], labels[8:])


def test_rows_without_length_are_accepted() -> None:
    assert kmeans_rows(np.zeros((4, 4)), 2).k == 1
