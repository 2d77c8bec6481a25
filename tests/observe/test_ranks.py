"""Ranks of feature maps, on maps whose rank is known."""

from __future__ import annotations

import numpy as np
import pytest
from compensate.nets import coupling_of, images
from net_builder import Net, image

from onnx_scsp.observe import gather_evidence
from onnx_scsp.observe.ranks import SAMPLES, feature_ranks
from onnx_scsp.plan.cost import make_pools


def known_maps() -> tuple[Net, str]:
    """Channels that copy an input (rank 8), are constant (1) or nothing (0)."""
    n, x = image()
    weight = np.zeros((4, 3, 1, 1))
    weight[0, 0] = 1.0
    y = n.op("Conv", x, n.const(weight), n.const([0.0, 2.0, 0.0, -1.0]), channels=4)
    return n, y


def test_ranks_of_known_maps() -> None:
    n, y = known_maps()
    found = feature_ranks(coupling_of(n.build(n.conv(y, 5))), images(20))
    np.testing.assert_array_equal(found[y], [8.0, 1.0, 0.0, 1.0])


def test_ranks_are_of_what_the_reader_sees() -> None:
    n, y = known_maps()
    z = n.relu(y)
    found = feature_ranks(coupling_of(n.build(n.conv(z, 5))), images(20))
    assert found[z][3] == 0.0  # a negative constant, behind a ReLU


def test_a_map_without_extent_has_rank_1_where_it_is_active() -> None:
    n = Net()
    x = n.input("N", 3)
    y = n.op("Relu", x)
    proto = n.build(n.gemm(y, 3, 4))
    batch = np.array([[1, -1, 0], [1, 1, 0], [1, -1, 0], [1, -1, 0]], np.float32)
    found = feature_ranks(coupling_of(proto), [{x: batch}])
    np.testing.assert_array_equal(found[y], [1.0, 0.25, 0.0])


@pytest.mark.parametrize("name_dims", [(9,), (4, 5, 3)])
def test_maps_of_any_number_of_axes_have_ranks(name_dims: tuple[int, ...]) -> None:
    n = Net()
    x = n.input("N", 3, *name_dims)
    y = n.relu(n.conv(x, 4, 1, dims=len(name_dims)))
    proto = n.build(n.conv(y, 2, 1, dims=len(name_dims)))
    found = feature_ranks(coupling_of(proto), images(8, 3, *name_dims))
    most = 1 if len(name_dims) == 1 else min(name_dims[0], int(np.prod(name_dims[1:])))
    assert ((found[y] >= 0) & (found[y] <= most)).all()
    assert found[y].max() == most


def test_no_more_samples_are_run_than_are_needed() -> None:
    n, y = known_maps()
    coupling = coupling_of(n.build(n.conv(y, 5)))
    taken: list[int] = []

    def batches() -> object:
        for number, batch in enumerate(images(20 * SAMPLES)):
            taken.append(number)
            yield batch

    feature_ranks(coupling, batches())
    assert len(taken) * 16 == SAMPLES


def test_ranks_reach_the_pools_only_where_they_are_asked_for() -> None:
    n, x = image()
    y = n.block(x, 6)
    coupling = coupling_of(n.build(n.conv(y, 5)))
    (pool,) = [pool.global_units for pool in make_pools(coupling, 1, 0.1)]
    asked, not_asked = (
        gather_evidence(
            coupling, [pool], images(16), 16, measured=False, detailed=True, ranked=ranked
        ).pools[0]
        for ranked in (True, False)
    )
    assert asked is not None and asked.activity is not None
    assert not_asked is not None and not_asked.activity is not None
    assert not_asked.activity.ranks is None
    expected = feature_ranks(coupling, images(16))[y]
    np.testing.assert_array_equal(asked.activity.ranks, expected)
