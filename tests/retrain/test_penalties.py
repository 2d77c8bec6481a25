"""Regularisers against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from onnx_scsp.config import PruneConfig  # noqa: E402
from onnx_scsp.couple import find_coupling  # noqa: E402
from onnx_scsp.plan import plan_cuts  # noqa: E402
from onnx_scsp.retrain.lift import lift  # noqa: E402
from onnx_scsp.retrain.penalties import make_penalty  # noqa: E402
from onnx_scsp.retrain.soften import kept_by_group  # noqa: E402
from onnx_scsp.types import Role  # noqa: E402
from retrain.small_nets import plain, saved  # noqa: E402

L2 = PruneConfig(target="ratio", value=0.5, method="l2", compensate="none", synthetic=False)


@pytest.fixture
def network(tmp_path):
    coupling = find_coupling(saved(plain((4, 4)), tmp_path / "net.onnx"))
    lifted = lift(coupling.model)
    config = replace(L2, align=1)
    return coupling, lifted, plan_cuts(coupling, config)


def filters_of(coupling, lifted) -> list[torch.Tensor]:
    names = [m.tensor for g in coupling.map.groups for m in g.members if m.role is Role.MAKES]
    return [lifted.constants[name].detach().flatten(1) for name in names]


def test_group_sparsity_is_the_sum_of_filter_norms(network) -> None:
    coupling, lifted, plan = network
    penalty = make_penalty("group", coupling, plan, lifted.constants)
    assert penalty is not None
    expected = sum(rows.norm(dim=1).sum() for rows in filters_of(coupling, lifted))
    assert penalty().item() == pytest.approx(expected.item(), rel=1e-5)


def test_exclusive_sparsity_lets_filters_compete_for_inputs(network) -> None:
    coupling, lifted, plan = network
    penalty = make_penalty("exclusive", coupling, plan, lifted.constants)
    assert penalty is not None
    expected = sum(0.5 * rows.abs().sum(0).square().sum() for rows in filters_of(coupling, lifted))
    assert penalty().item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_mixture_turns_from_group_to_exclusive_with_depth(network) -> None:
    coupling, lifted, plan = network
    penalty = make_penalty("group-exclusive", coupling, plan, lifted.constants)
    assert penalty is not None
    first, last = filters_of(coupling, lifted)

    def mixed(rows: torch.Tensor, share: float) -> torch.Tensor:
        exclusive = 0.5 * rows.abs().sum(0).square().sum()
        return (1 - share) * rows.norm(dim=1).sum() + share * exclusive

    expected = mixed(first, 0.2) + mixed(last, 0.8)
    assert penalty().item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_factors_sum_to_zero_and_push_weak_and_strong_apart(network) -> None:
    coupling, lifted, plan = network
    penalty = make_penalty("balanced", coupling, plan, lifted.constants)
    assert penalty is not None
    found = penalty()
    assert found.item() == pytest.approx(0.0, abs=1e-4)
    found.backward()
    group = coupling.map.groups[0]
    weight = lifted.constants[next(m.tensor for m in group.members if m.role is Role.MAKES)]
    outward = (weight.grad * weight.detach()).flatten(1).sum(1)
    kept = torch.from_numpy(kept_by_group(coupling, plan)[group.id])
    assert (outward[kept] < 0).all()  # a step against the gradient grows them
    assert (outward[~kept] > 0).all()


def test_no_penalty_is_none(network) -> None:
    coupling, lifted, plan = network
    assert make_penalty("none", coupling, plan, lifted.constants) is None


def test_after_the_cut_nothing_is_weak(network) -> None:
    coupling, lifted, _ = network
    assert make_penalty("balanced", coupling, None, lifted.constants) is None
