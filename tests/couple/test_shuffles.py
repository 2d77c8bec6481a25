"""Channel shuffles: recognised, freed from the rectangle, and rewritten as Gather when cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from net_builder import Net, image
from onnx import numpy_helper

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_coupling
from onnx_scsp.graph.load import load
from onnx_scsp.pipeline import prune, verify
from onnx_scsp.plan.document import read_plan


def shuffle(n: Net, x: str, groups: int, perm: tuple[int, ...] = (0, 2, 1, 3, 4)) -> str:
    channels = n.channels[x]
    y = n.op("Reshape", x, n.const([0, groups, channels // groups, 8, 8]))
    y = n.op("Transpose", y, perm=list(perm))
    return str(n.op("Reshape", y, n.const([0, channels, 8, 8]), channels=channels))


def unit(channels: int = 12, groups: int = 3) -> onnx.ModelProto:
    """Grouped convolution, shuffle, depthwise, grouped convolution."""
    n, x = image()
    x = n.relu(n.conv(n.conv(x, channels), channels, 1, groups=groups))
    x = n.depthwise(shuffle(n, x, groups))
    return n.build(n.head(n.conv(x, channels, 1, groups=groups)))


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, str(folder / "in.onnx"))
    return folder / "in.onnx"


def cut(source: Path, value: float = 0.5) -> tuple[Path, Path]:
    output, plan = source.with_name("out.onnx"), source.with_name("plan.json")
    config = PruneConfig(target="ratio", value=value, align=1, compensate="none")
    prune(source, output, config, plan_out=plan)
    return output, plan


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_a_shuffle_is_found_with_its_order(tmp_path: Path) -> None:
    (found,) = find_coupling(load(saved(unit(), tmp_path))).walk.shuffles
    assert found.axis == 1
    assert found.order.tolist() == np.arange(12).reshape(3, 4).T.reshape(-1).tolist()


def test_a_transpose_that_moves_positions_is_no_shuffle(tmp_path: Path) -> None:
    n, x = image()
    x = shuffle(n, n.conv(x, 12), 3, perm=(0, 1, 2, 4, 3))
    found = find_coupling(load(saved(n.build(n.head(n.conv(x, 4))), tmp_path)))
    assert found.walk.shuffles == ()


def test_a_shuffle_whose_inside_is_read_elsewhere_is_left_as_it_is(tmp_path: Path) -> None:
    n, x = image()
    y = n.op("Reshape", n.conv(x, 12), n.const([0, 3, 4, 8, 8]))
    other = n.op("ReduceMean", y, axes=[1, 2, 3, 4], keepdims=0)
    y = n.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = n.op("Reshape", y, n.const([0, 12, 8, 8]), channels=12)
    model = n.build(n.head(n.conv(y, 4)), other)
    assert find_coupling(load(saved(model, tmp_path))).walk.shuffles == ()


@pytest.mark.parametrize(("channels", "groups"), [(12, 2), (12, 3), (20, 4), (21, 3)])
def test_groups_that_cross_in_a_shuffle_are_cut_and_equal_the_independent_twin(
    channels: int, groups: int, tmp_path: Path
) -> None:
    source = saved(unit(channels, groups), tmp_path)
    output, plan = cut(source)
    twin = independent_twin.compare(source, output, plan)
    assert twin.removed > 0
    assert twin.error <= 1e-4


def test_a_shuffle_cut_off_its_rectangle_becomes_one_gather(tmp_path: Path) -> None:
    output, _ = cut(saved(unit(21, 3), tmp_path))
    assert kinds(output)["Gather"] == 1
    assert kinds(output)["Transpose"] == 0


def test_a_shuffle_that_keeps_a_rectangle_stays_a_shuffle(tmp_path: Path) -> None:
    n, x = image()
    # the convolution behind the shuffle ties nothing, the one before it keeps positions
    w = n.const(np.concatenate([n.rng.standard_normal((6, 4, 3, 3))] * 2))
    n.channels["made"] = 12
    x = n.op("Conv", n.conv(x, 4), w, pads=[1, 1, 1, 1], channels=12)
    n.weights[w][[1, 3, 5, 7, 9, 11]] *= 1e-3
    source = saved(n.build(n.head(n.conv(shuffle(n, n.relu(x), 2), 4))), tmp_path)
    output, plan = tmp_path / "out.onnx", tmp_path / "plan.json"
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none", method="l2")
    prune(source, output, config, plan_out=plan)
    assert kinds(output)["Transpose"] == 1
    assert kinds(output)["Gather"] == 0
    assert independent_twin.compare(source, output, plan).error <= 1e-4


def test_a_gather_in_the_wrong_order_is_caught(tmp_path: Path) -> None:
    source = saved(unit(21, 3), tmp_path)
    output, plan = cut(source)
    model = onnx.load(str(output))
    (gather,) = (node for node in model.graph.node if node.op_type == "Gather")
    (order,) = (t for t in model.graph.initializer if t.name == gather.input[1])
    order.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(order)[::-1].copy(), order.name))
    onnx.save(model, str(output))
    report = verify(source, output, read_plan(plan))
    assert "masked twin" in {check.name for check in report.failed}
