"""Scores by gradients: known answers, what is refused, the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from net_builder import image  # noqa: E402

import onnx_scsp  # noqa: E402
from onnx_scsp.calibration import open_calibration  # noqa: E402
from onnx_scsp.couple import find_coupling  # noqa: E402
from onnx_scsp.errors import ConfigError, ModelError, OutputError  # noqa: E402
from onnx_scsp.graph.load import from_proto  # noqa: E402
from onnx_scsp.graph.model import Model  # noqa: E402
from onnx_scsp.plan import read_importance  # noqa: E402
from onnx_scsp.retrain.importance import gradient_importance, write_importance  # noqa: E402
from retrain.running import runtime  # noqa: E402
from retrain.small_nets import digits, images  # noqa: E402

DIGITS = Path(__file__).parents[2] / "models" / "digits_bn.onnx"


def planted() -> tuple[Model, str, str]:
    """Six equal filters; readers see them by 0, 1, 2, 0, 3 and 1 times one matrix."""
    n, x = image()
    y = n.op("Relu", n.conv(x, 6))
    model = n.build(n.conv(y, 4, k=1))
    first, second = (node for node in model.graph.node if node.op_type == "Conv")
    arrays = {t.name: onnx.numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    arrays[first.input[1]][:] = arrays[first.input[1]][:1]
    if len(first.input) > 2:
        arrays[first.input[2]][:] = arrays[first.input[2]][:1]
    factors = np.array([0, 1, 2, 0, 3, 1], np.float32)
    reader = arrays[second.input[1]]
    reader[:] = reader[:, :1] * factors[None, :, None, None]
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return from_proto(model), first.input[1], second.input[1]


def scores(model: Model, count: int = 8, **options: object) -> dict[str, np.ndarray]:
    return gradient_importance(model, open_calibration(images(count), model), **options)


def test_scores_go_with_the_square_of_what_readers_make_of_equal_units() -> None:
    model, weight, _ = planted()
    found = scores(model)[weight]
    np.testing.assert_allclose(found / found[1], [0, 1, 4, 0, 9, 1], rtol=1e-5)


def test_labels_give_the_slope_of_the_loss() -> None:
    x, y = digits(32)
    model = onnx_scsp.load(DIGITS)
    found = gradient_importance(model, open_calibration(x, model), y, batch=32)
    coupling = find_coupling(model)
    group = coupling.map.groups[0]
    maker = next(m for m in group.members if m.tensor in found and m.role.value == "makes")
    unit = int(np.argmax(found[maker.tensor]))
    slope = (_loss(model, group, unit, 1.01, x, y) - _loss(model, group, unit, 0.99, x, y)) / 0.02
    score = found[maker.tensor][int(np.flatnonzero(maker.units == unit)[0])]
    assert score == pytest.approx(slope**2, rel=0.02)


def _loss(model: Model, group, unit: int, factor: float, x, y) -> float:
    """Cross-entropy with what readers read of one unit times a factor."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for member in group.members:
        if member.role.value == "reads":
            tensor = next(t for t in proto.graph.initializer if t.name == member.tensor)
            array = onnx.numpy_helper.to_array(tensor).copy()
            place = [slice(None)] * array.ndim
            place[member.axis] = np.flatnonzero(member.units == unit)
            array[tuple(place)] *= factor
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    (logits,) = runtime(from_proto(proto), {proto.graph.input[0].name: x}).values()
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]))


def test_the_seed_alone_decides() -> None:
    model, weight, _ = planted()
    first, again, other = (scores(model, seed=seed)[weight] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_planner_goes_by_the_scores(tmp_path: Path) -> None:
    model, *_ = planted()
    write_importance(scores(model), tmp_path / "s.npz")
    config = onnx_scsp.PruneConfig(
        target="ratio", value=0.5, method="importance", synthetic=False, align=1, compensate="none"
    )
    choices = onnx_scsp.Choices(importance=read_importance(tmp_path / "s.npz"))
    (cut,) = onnx_scsp.make_plan(model, config, choices=choices).cuts
    assert {2, 4} < set(cut.keep)
    assert not {0, 3} & set(cut.keep)


def test_the_same_scores_give_the_same_bytes_whatever_their_names(tmp_path: Path) -> None:
    found = {"file": np.arange(3.0), "a/b": np.ones(2)}
    for name in ("a.npz", "b.npz"):
        write_importance(found, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert read_importance(tmp_path / "a.npz").keys() == found.keys()
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_other_endings_and_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"written as \.npz"):
        write_importance({}, tmp_path / "s.json")
    with pytest.raises(OutputError, match="cannot be written"):
        write_importance({}, tmp_path / "none" / "s.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (np.full(16, 10), {}, "label 10 is none of the network's 10 classes"),
        (np.full(16, -1), {}, "label -1 is none"),
        (np.zeros(15, int), {}, "15 labels"),
        (np.zeros(16, int), {"output_name": "x9"}, "'x9' is no output"),
    ],
)
def test_what_does_not_fit_is_refused(labels, options, words) -> None:
    model = onnx_scsp.load(DIGITS)
    data = open_calibration(digits(16)[0], model)
    with pytest.raises(ConfigError, match=words):
        gradient_importance(model, data, labels, **options)


def test_a_network_without_groups_has_nothing_to_score() -> None:
    n, x = image()
    model = from_proto(n.build(n.conv(x, 4)))
    with pytest.raises(ModelError, match="no group of channels"):
        scores(model)


def test_every_group_of_a_network_with_norms_has_scores() -> None:
    model = onnx_scsp.load(DIGITS)
    data = open_calibration(digits(16)[0], model)
    found = gradient_importance(model, data)
    assert all((values >= 0).all() and values.any() for values in found.values())
    onnx_scsp.make_plan(
        model,
        onnx_scsp.PruneConfig(method="importance", synthetic=False),
        choices=onnx_scsp.Choices(importance=found),
    )
