"""Spectral clustering, held against scikit-learn and against planted clusters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import SpectralClustering
from sklearn.cluster._spectral import cluster_qr as reference_qr
from sklearn.metrics import adjusted_rand_score

from onnx_scsp.partition import (
    affinity,
    clone_classes,
    clusters_of,
    cosine,
    spectral_clusters,
)
from onnx_scsp.partition.spectral import _laplacian, cluster_qr, spectrum

Array = NDArray[np.float64]


def planted(
    sizes: tuple[int, ...], noise: float = 0.02, dim: int = 40, seed: int = 0
) -> tuple[Array, NDArray[np.int64]]:
    """Rows around one random direction per cluster, and the cluster of each row."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.linalg.qr(rng.standard_normal((dim, len(sizes))))[0].T
    return centres[labels] + noise * rng.standard_normal((labels.size, dim)), labels


def gram(rows: Array) -> Array:
    return rows @ rows.T


def same(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    """Whether two labellings are one partition."""
    return adjusted_rand_score(a, b) == 1.0


# ---- against scikit-learn -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n", "k"), [(10, 2), (40, 5), (64, 16), (128, 50)])
def test_cluster_qr_equals_scikit_learns_on_orthonormal_columns(n: int, k: int, seed: int) -> None:
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, k)))[0]
    assert same(cluster_qr(vectors), reference_qr(vectors))


@pytest.mark.parametrize("seed", range(4))
def test_cluster_qr_equals_scikit_learns_on_laplacian_eigenvectors(seed: int) -> None:
    weights = affinity(cosine(gram(np.random.default_rng(seed).standard_normal((60, 9)))))
    vectors = spectrum(weights).vectors(7)
    assert same(cluster_qr(vectors), reference_qr(vectors))


def test_planted_clusters_are_those_that_scikit_learn_finds() -> None:
    rows, _ = planted((9, 14, 11, 10))
    weights = affinity(cosine(gram(rows)))
    oracle = SpectralClustering(4, affinity="precomputed", assign_labels="cluster_qr")
    assert same(spectral_clusters(gram(rows), 4).labels, oracle.fit_predict(weights))


# ---- planted clusters -----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(10, 10), (9, 20, 12), (8,) * 6, (30, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_well_separated_blobs_are_found(sizes: tuple[int, ...], seed: int) -> None:
    rows, labels = planted(sizes, seed=seed)
    assert same(spectral_clusters(gram(rows), len(sizes)).labels, labels)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_widest_eigengap_is_at_the_number_of_planted_clusters(count: int) -> None:
    rows, _ = planted((12,) * count)
    values = spectral_clusters(gram(rows), count).eigenvalues
    assert int(np.argmax(np.diff(values)[: values.size // 2])) + 1 == count


def test_scaling_the_rows_changes_nothing() -> None:
    rows, _ = planted((10, 12, 9))
    factors = np.random.default_rng(1).uniform(0.01, 100.0, (rows.shape[0], 1))
    plain, scaled = (spectral_clusters(gram(r), 3).labels for r in (rows, rows * factors))
    assert same(plain, scaled)


@pytest.mark.parametrize("seed", range(5))
def test_permuting_rows_permutes_labels(seed: int) -> None:
    rows, _ = planted((10, 12, 9, 8), noise=0.1)
    order = np.random.default_rng(seed).permutation(rows.shape[0])
    plain, moved = (spectral_clusters(gram(r), 4).labels for r in (rows, rows[order]))
    assert same(plain[order], moved)


# ---- duplicates, extremes -------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 12, 19, 20, 40])
def test_duplicates_share_a_cluster_whatever_k_is(k: int) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 30))
    twice = np.concatenate([rows, 3.0 * rows])  # the same direction, another length
    labels = spectral_clusters(gram(twice), k).labels
    assert np.array_equal(labels[:20], labels[20:])


def test_one_unit_copied_many_times_is_one_cluster() -> None:
    rows = np.concatenate([np.tile(np.ones(6), (12, 1)), np.eye(6)])
    labels = spectral_clusters(gram(rows), 4).labels
    assert len(set(labels[:12].tolist())) == 1


def test_only_copies_give_one_cluster() -> None:
    part = spectral_clusters(gram(np.ones((6, 3))), 4)
    assert part.k == 1
    assert not part.labels.any()


def test_k_of_one_puts_everything_together() -> None:
    part = spectral_clusters(gram(np.random.default_rng(0).standard_normal((15, 4))), 1)
    assert part.k == 1
    assert not part.labels.any()


@pytest.mark.parametrize("k", [15, 16, 100])
def test_k_of_n_or_more_keeps_everything_apart(k: int) -> None:
    part = spectral_clusters(gram(np.random.default_rng(0).standard_normal((15, 20))), k)
    assert part.k == 15
    assert sorted(part.labels.tolist()) == list(range(15))


def test_a_single_unit_is_one_cluster() -> None:
    part = spectral_clusters(np.array([[2.0]]), 1)
    assert part.labels.tolist() == [0]
    assert part.components == 1


@pytest.mark.parametrize("k", range(1, 25))
def test_labels_have_no_gaps_and_are_at_most_k(k: int) -> None:
    rows = np.random.default_rng(k).standard_normal((24, 5))
    part = spectral_clusters(gram(rows), k)
    assert sorted(set(part.labels.tolist())) == list(range(part.k))
    assert part.k <= k


def test_zero_vectors_do_not_disturb_the_clusters_of_the_others() -> None:
    rows, labels = planted((10, 12))
    padded = np.concatenate([rows, np.zeros((1, rows.shape[1]))])
    part = spectral_clusters(gram(padded), 3)
    assert np.isfinite(part.eigenvalues).all()
    assert same(part.labels[:-1], labels)


def test_zero_vectors_share_a_cluster() -> None:
    rows = np.concatenate([np.zeros((3, 8)), np.eye(8)])
    labels = spectral_clusters(gram(rows), 9).labels
    assert len(set(labels[:3].tolist())) == 1
    assert len(set(labels[2:].tolist())) == 9


def test_only_zero_vectors_give_one_cluster() -> None:
    part = spectral_clusters(np.zeros((5, 5)), 2)
    assert part.labels.tolist() == [0] * 5
    assert np.isfinite(part.eigenvalues).all()


def test_the_same_input_gives_the_same_labels() -> None:
    rows = np.random.default_rng(3).standard_normal((50, 8))
    first, second = (spectral_clusters(gram(rows), 9) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.eigenvalues, second.eigenvalues)


def test_the_input_is_not_changed() -> None:
    matrix = gram(np.random.default_rng(3).standard_normal((12, 8)))
    before = matrix.copy()
    spectral_clusters(matrix, 3)
    assert np.array_equal(matrix, before)


# ---- the pieces -----------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 4, 7])
def test_zero_eigenvalues_count_the_blocks_of_the_graph(blocks: int) -> None:
    rng = np.random.default_rng(0)
    weights = np.zeros((6 * blocks, 6 * blocks))
    for start in range(0, 6 * blocks, 6):
        block = rng.uniform(0.2, 1.0, (6, 6))
        weights[start : start + 6, start : start + 6] = block + block.T
    np.fill_diagonal(weights, 0.0)
    assert int((spectrum(weights).values < 1e-10).sum()) == blocks


def test_an_isolated_node_counts_as_a_component() -> None:
    weights = np.zeros((3, 3))
    weights[0, 1] = weights[1, 0] = 1.0
    assert int((spectrum(weights).values < 1e-10).sum()) == 2


def test_eigenvalues_ascend_from_zero_to_at_most_two() -> None:
    weights = affinity(cosine(gram(np.random.default_rng(0).standard_normal((30, 5)))))
    values = spectrum(weights).values
    assert (np.diff(values) >= 0).all()
    assert values[0] == pytest.approx(0.0, abs=1e-12)
    assert values[-1] <= 2.0 + 1e-12


def test_components_count_far_apart_clusters() -> None:
    rows, _ = planted((10, 10, 10), noise=1e-4)
    assert spectral_clusters(gram(rows), 3).components == 3


def test_affinity_is_symmetric_in_zero_to_one_without_loops() -> None:
    weights = affinity(cosine(gram(np.random.default_rng(0).standard_normal((30, 5)))))
    assert np.allclose(weights, weights.T, rtol=1e-12, atol=0.0)
    assert not np.diagonal(weights).any()
    assert 0.0 <= weights.min() <= weights.max() <= 1.0


def test_affinity_is_the_self_tuning_one_of_zelnik_manor_and_perona() -> None:
    cosines = cosine(gram(np.random.default_rng(0).standard_normal((12, 5))))
    distance = np.sqrt(2.0 - 2.0 * np.minimum(cosines, 1.0))
    scale = [sorted(row)[7] for row in distance]  # the unit itself comes first
    want = [
        [
            0.0 if i == j else np.exp(-(distance[i, j] ** 2) / (scale[i] * scale[j]))
            for j in range(12)
        ]
        for i in range(12)
    ]
    assert np.allclose(affinity(cosines), want)


def test_cosine_of_known_vectors() -> None:
    rows = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [-4.0, 0.0], [0.0, 0.0]])
    half = np.sqrt(0.5)
    want = [[1, 0, half, -1, 0], [0, 1, half, 0, 0], [half, half, 1, -half, 0]]
    assert np.allclose(cosine(gram(rows))[:3], want)


def test_a_zero_vector_is_at_a_right_angle_to_everything() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 0.0]])
    assert not cosine(gram(rows))[1].any()


def test_clone_classes_find_multiples_and_nothing_else() -> None:
    rows = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 4.0], [-1.0, -2.0], [1.0, 2.001]])
    classes = clone_classes(cosine(gram(rows)))
    assert classes[0] == classes[2]
    assert len(set(classes.tolist())) == 4


# ---- the spectrum, in parts -----------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(2, 1), (2, 2), (3, 2), (17, 5), (80, 80), (150, 20)])
def test_vectors_are_orthonormal_eigenvectors_of_the_smallest_eigenvalues(n: int, k: int) -> None:
    weights = affinity(cosine(gram(np.random.default_rng(n).standard_normal((n, 6)))))
    laplacian = _laplacian(weights)
    found = spectrum(weights)
    vectors = found.vectors(k)
    assert vectors.shape == (n, k)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(laplacian), atol=1e-12)
    np.testing.assert_allclose(laplacian @ vectors, vectors * found.values[:k], atol=1e-10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-9)


def test_vectors_of_a_repeated_eigenvalue_span_its_space() -> None:
    weights = np.kron(np.eye(5), 1.0 - np.eye(4))  # five separate cliques: eigenvalue 0 five times
    vectors = spectrum(weights).vectors(5)
    indicators = np.kron(np.eye(5), np.ones((4, 1))) / 2.0
    np.testing.assert_allclose(vectors @ vectors.T, indicators @ indicators.T, atol=1e-12)


def test_clusters_of_a_spectrum_are_those_of_its_gram_matrix() -> None:
    rows, _ = planted((12, 9, 20), noise=0.3)
    known = clusters_of(spectrum(affinity(cosine(gram(rows)))), 3)
    found = spectral_clusters(gram(rows), 3)
    assert np.array_equal(known.labels, found.labels)
    assert (known.k, known.components) == (found.k, found.components)


def test_an_affinity_that_nobody_needs_gives_the_same_spectrum() -> None:
    weights = affinity(cosine(gram(np.random.default_rng(0).standard_normal((70, 5)))))
    kept = spectrum(weights)
    spoilt = spectrum(weights.copy(), overwrite=True)
    assert np.array_equal(kept.values, spoilt.values)
    assert np.array_equal(kept.vectors(5), spoilt.vectors(5))
