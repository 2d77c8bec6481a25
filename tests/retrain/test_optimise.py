"""Learning rates against their formulas, decay groups, moving average."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from onnx_scsp.retrain.optimise import Average, make_optimiser, rate_at  # noqa: E402
from onnx_scsp.retrain.options import RetrainConfig  # noqa: E402


def rates(total: int = 100, **options: object) -> list[float]:
    config = RetrainConfig(rate=1.0, **options)
    return [rate_at(update, total, config) for update in range(total)]


def test_the_warm_up_climbs_evenly() -> None:
    assert rates(warm_up=0.1)[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])


def test_cosine_falls_from_the_largest_rate_to_nothing() -> None:
    found = rates(warm_up=0.0)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert found[-1] == pytest.approx((1 + math.cos(math.pi * 0.99)) / 2)


def test_one_cycle_climbs_and_falls_far_below_its_start() -> None:
    found = rates(rates="one-cycle", warm_up=0.3)
    assert max(found) == pytest.approx(1.0)
    assert found.index(max(found)) in (29, 30)
    assert found[0] < 0.1
    assert found[-1] < 0.002


def test_constant_stays() -> None:
    assert set(rates(rates="constant", warm_up=0.0)) == {1.0}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_tensors_of_two_axes_decay(name: str) -> None:
    weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(3))]
    groups = make_optimiser(weights, RetrainConfig(optimiser=name)).param_groups
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
    assert groups[1]["params"][0] is weights[1]


def test_what_needs_no_gradient_is_not_trained() -> None:
    weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2, 2))]
    weights[1].requires_grad_(False)
    groups = make_optimiser(weights, RetrainConfig()).param_groups
    assert sum(len(group["params"]) for group in groups) == 1


def test_the_average_starts_quickly_and_then_holds_its_decay() -> None:
    tensor = {"w": torch.zeros(1)}
    average = Average(tensor, 0.5)
    tensor["w"].fill_(1.0)
    average.update(tensor, 0)  # decay 1 / 10
    assert float(average.tensors["w"]) == pytest.approx(0.9)
    average.update({"w": torch.zeros(1)}, 1000)  # decay 0.5
    assert float(average.tensors["w"]) == pytest.approx(0.45)
