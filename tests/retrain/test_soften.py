"""Softening: which entries shrink, what the network then computes, and who can come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from net_builder import image  # noqa: E402

from onnx_scsp.config import PruneConfig  # noqa: E402
from onnx_scsp.couple import find_coupling  # noqa: E402
from onnx_scsp.evaluate import Predictor  # noqa: E402
from onnx_scsp.graph.load import load  # noqa: E402
from onnx_scsp.graph.model import Model  # noqa: E402
from onnx_scsp.ops import RULES  # noqa: E402
from onnx_scsp.plan import plan_cuts  # noqa: E402
from onnx_scsp.retrain.feed import Feed  # noqa: E402
from onnx_scsp.retrain.lift import lift  # noqa: E402
from onnx_scsp.retrain.members import chosen_entries, owners  # noqa: E402
from onnx_scsp.retrain.planning import Planner  # noqa: E402
from onnx_scsp.retrain.soften import cut_mask, kept_by_group, make_softener  # noqa: E402
from onnx_scsp.retrain.student import floating, load_values, silenced  # noqa: E402
from onnx_scsp.surgery import operate  # noqa: E402
from onnx_scsp.types import Member, Role  # noqa: E402
from retrain.small_nets import images, plain, saved  # noqa: E402

L2 = PruneConfig(target="ratio", value=0.5, method="l2", compensate="none", synthetic=False)


@pytest.fixture
def model(tmp_path) -> Model:
    return saved(plain(norm=True), tmp_path / "net.onnx")


@pytest.fixture
def coupling(model):
    return find_coupling(model)


def answers(lifted, x: np.ndarray) -> np.ndarray:
    lifted.eval()
    with torch.no_grad():
        return lifted(torch.from_numpy(x))[0].numpy()


def test_entries_of_a_plain_member_lie_along_its_axis() -> None:
    member = Member("w", 1, Role.READS, np.array([2, -1, 0]))
    chosen = np.array([True, False, False])
    found = chosen_entries(member, (4, 3, 1, 1), chosen)
    assert found.shape == (1, 3, 1, 1)
    assert found.ravel().tolist() == [False, False, True]


def test_entries_of_a_grouped_member_differ_between_the_parts_of_the_other_axis() -> None:
    units = np.array([[0, 1], [2, 3]])
    member = Member("w", 1, Role.READS, units, across=0)
    found = owners(member, (4, 2, 3, 3))
    assert found.shape == (4, 2, 1, 1)
    assert found[:, :, 0, 0].tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_silenced_readers_compute_what_the_cut_network_computes(model, coupling) -> None:
    plan = plan_cuts(coupling, L2)
    proto = operate(coupling, RULES, plan)
    assert proto is not None
    cut = Predictor(replace(model, proto=proto, path=None))
    x, lifted = images(6), lift(model)
    with silenced(lifted, cut_mask(coupling, plan, lifted.constants)):
        found = answers(lifted, x)
    expected = next(iter(cut({"x": x}).values()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_where_a_mean_runs_over_channels_their_filters_are_silenced(tmp_path) -> None:
    n, x = image()
    y = n.block(x, 8)
    mean = n.op("ReduceMean", y, axes=[1])
    n.channels[mean] = 1
    y = n.op("Mul", y, n.op("Sigmoid", n.conv(mean, 1)))
    n.channels[y] = 8
    proto = n.build(n.head(n.relu(n.conv(y, 6))), output_shape=["N", 5])
    onnx.save(proto, str(tmp_path / "net.onnx"))
    model = load(tmp_path / "net.onnx")
    coupling = find_coupling(model)
    plan = plan_cuts(coupling, L2)
    assert any(group.reductions for group in plan.groups)
    proto = operate(coupling, RULES, plan)
    assert proto is not None
    cut = Predictor(replace(model, proto=proto, path=None))
    x, lifted = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype("f4"), lift(model)
    with silenced(lifted, cut_mask(coupling, plan, lifted.constants)):
        found = answers(lifted, x)
    expected = next(iter(cut({"x": x}).values()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_silencing_puts_every_weight_back(model, coupling) -> None:
    lifted = lift(model)
    before = {name: tensor.clone() for name, tensor in floating(lifted).items()}
    with silenced(lifted, cut_mask(coupling, plan_cuts(coupling, L2), lifted.constants)):
        assert any(not torch.equal(before[n], t) for n, t in floating(lifted).items())
    assert all(torch.equal(before[name], tensor) for name, tensor in floating(lifted).items())


@pytest.mark.parametrize("slices", ["reads", "makes", "scale"])
def test_only_what_the_schedule_names_shrinks_and_by_its_factor(model, coupling, slices) -> None:
    plan, lifted = plan_cuts(coupling, L2), lift(model)
    before = {name: tensor.detach().clone() for name, tensor in lifted.constants.items()}
    make_softener(coupling, plan, slices, lifted.constants).apply(lifted.constants, 0.25)
    kept = kept_by_group(coupling, plan)
    first = coupling.map.groups[0]
    gone = ~kept[first.id]
    names = {member.role: member.tensor for member in first.members}
    gamma = coupling.map.chains[0].norm_tensors[0]
    target = {"reads": names[Role.READS], "makes": names[Role.MAKES], "scale": gamma}[slices]
    axis = 1 if slices == "reads" else 0
    ratio = (lifted.constants[target] / before[target]).detach().movedim(axis, 0)
    ratio = ratio.reshape(len(gone), -1)
    if slices == "reads":  # the second layer's filters that go are softened at their own readers
        ratio = ratio[:, :1]
    expected = torch.where(torch.from_numpy(gone), 0.25, 1.0)
    torch.testing.assert_close(ratio.mean(1), expected, rtol=1e-4, atol=1e-4)
    changed = {n for n, t in lifted.constants.items() if not torch.equal(t, before[n])}
    roles = {m.tensor: m.role for g in coupling.map.groups for m in g.members}
    allowed = {"reads": Role.READS, "makes": Role.MAKES, "scale": Role.SCALES}[slices]
    members = {m.tensor for g in coupling.map.groups for m in g.members if m.role is allowed}
    assert changed
    assert changed <= members, roles


def test_a_pull_to_the_centroid_makes_cluster_members_equal(model, coupling) -> None:
    plan = plan_cuts(coupling, L2)
    cuts = tuple(
        replace(cut, absorbed_by={u: cut.keep[0] for u in range(cut.n_units) if u not in cut.keep})
        for cut in plan.cuts
    )
    lifted = lift(model)
    softener = make_softener(coupling, replace(plan, cuts=cuts), "centroid", lifted.constants)
    softener.apply(lifted.constants, 0.0)
    group = coupling.map.groups[0]
    cut = next(cut for cut in cuts if cut.group == group.id)
    weight = next(m.tensor for m in group.members if m.role is Role.MAKES)
    rows = lifted.constants[weight].detach().flatten(1)
    alike = [cut.keep[0], *cut.absorbed_by]
    torch.testing.assert_close(rows[alike], rows[alike[:1]].expand(len(alike), -1))
    assert not torch.allclose(rows[cut.keep[0]], rows[cut.keep[1]])


def test_nothing_is_softened_where_nothing_goes(model, coupling) -> None:
    lifted = lift(model)
    plan = replace(plan_cuts(coupling, L2), cuts=())
    assert make_softener(coupling, plan, "reads", lifted.constants).masks == ()


# ---- coming back ------------------------------------------------------------------------------


def planner_of(coupling) -> Planner:
    empty = Feed(np.arange(0), None, {}, None)
    config = replace(L2, method="scsp", align=1)
    return Planner(coupling, config, "scsp", empty)


def trained_towards(lifted, teacher, x: np.ndarray, steps: int) -> None:
    wanted = torch.from_numpy(answers(teacher, x))
    # weight decay lets go of what the target has no use for
    optimiser = torch.optim.AdamW(lifted.parameters(), 0.02, weight_decay=1.0)
    for _ in range(steps):
        optimiser.zero_grad()
        (lifted(torch.from_numpy(x))[0] - wanted).square().mean().backward()
        optimiser.step()


def test_units_that_were_silenced_come_back_when_they_earn_it(tmp_path) -> None:
    model = saved(plain(), tmp_path / "net.onnx")
    coupling = find_coupling(model)
    planner, lifted = planner_of(coupling), lift(model)
    group = coupling.map.groups[0]
    readers = next(m.tensor for m in group.members if m.role is Role.READS)
    plan = planner(lifted)
    plan = replace(plan, cuts=tuple(cut for cut in plan.cuts if cut.group == group.id))
    gone = ~kept_by_group(coupling, plan)[group.id]
    useful = lift(model)  # what is to be learnt lives on the units that the plan lets go
    with torch.no_grad():
        useful.constants[readers][:, torch.from_numpy(gone)] *= 4.0
        useful.constants[readers][:, torch.from_numpy(~gone)] = 0.0
    make_softener(coupling, plan, "reads", lifted.constants).apply(lifted.constants, 0.0)
    assert not (kept_by_group(coupling, planner(lifted))[group.id] & gone).any()
    trained_towards(lifted, useful, images(64), 100)
    assert (kept_by_group(coupling, planner(lifted))[group.id] & gone).any()


def test_a_unit_with_filter_and_bias_at_zero_does_not_come_back_through_relu(tmp_path) -> None:
    model = saved(plain(), tmp_path / "net.onnx")
    group, lifted = find_coupling(model).map.groups[0], lift(model)
    with torch.no_grad():
        for member in group.members:
            if member.role is not Role.READS:
                lifted.constants[member.tensor][0] = 0.0
    weight = next(m.tensor for m in group.members if m.role is Role.MAKES)
    trained_towards(lifted, lift(model), images(64), 5)
    assert not lifted.constants[weight][0].any()


def test_loading_values_overwrites_in_place(model) -> None:
    lifted = lift(model)
    name, tensor = next(iter(floating(lifted).items()))
    load_values(lifted, {name: torch.zeros_like(tensor)})
    assert not tensor.any()
