"""Mistakes that most inputs hide: what a wrong rule mixes is small, or rarely decides anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from more_nets import image
from onnx import numpy_helper

import onnx_scsp.pipeline as pipeline
from onnx_scsp.config import PruneConfig
from onnx_scsp.errors import VerifyError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.ops import RULES, OpRule, rule_table
from onnx_scsp.ops.site import Site
from onnx_scsp.proof.rewrite import masked_twin

CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
WIDTH = 8


def quiet_net(share: float) -> onnx.ModelProto:
    """Every other filter is small, and the largest value over all channels divides them all."""
    n, x = image()
    x = n.conv(x, WIDTH)
    largest = n.op("ReduceMax", n.op("Abs", x), axes=[1, 2, 3])
    n.channels[largest] = WIDTH
    y = n.op("Div", x, largest)
    model = n.build(n.head(n.relu(n.conv(y, WIDTH))), output_shape=["N", 5])
    for tensor in model.graph.initializer[:2]:
        array = numpy_helper.to_array(tensor).copy()
        array[1::2] *= share
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def separately(site: Site) -> None:
    """A rule that claims that the channels have nothing to do with each other."""
    site.emit(site.fresh(1).reshape(1, 1, 1, 1))


WRONG = {**RULES, **rule_table((OpRule(("ReduceMax",), separately, "wrong on purpose"),))}


@pytest.mark.parametrize("share", [0.5, 0.05, 0.001])
def test_the_loud_twin_notices_a_maximum_that_removed_channels_never_reach(
    share: float, tmp_path: Path
) -> None:
    onnx.save(quiet_net(share), str(tmp_path / "in.onnx"))
    with pytest.raises(VerifyError, match="masked twin"):
        pipeline.prune(tmp_path / "in.onnx", tmp_path / "out.onnx", CONFIG, rules=WRONG)


def test_the_plain_twin_alone_would_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that it is the loudness that the test above tests."""
    monkeypatch.setattr(
        "onnx_scsp.proof.oracles.masked_twin",
        lambda model, plan, loud=False: masked_twin(model, plan),
    )
    onnx.save(quiet_net(0.001), str(tmp_path / "in.onnx"))
    assert pipeline.prune(tmp_path / "in.onnx", tmp_path / "out.onnx", CONFIG, rules=WRONG).report


def test_the_loud_twin_differs_in_the_filters_of_removed_units_alone() -> None:
    n, x = image()
    model = from_proto(n.build(n.head(n.relu(n.conv(x, WIDTH)))))
    plan = pipeline.make_plan(model, CONFIG)
    plain, loud = (
        {t.name: numpy_helper.to_array(t) for t in twin.proto.graph.initializer}
        for twin in (masked_twin(model, plan), masked_twin(model, plan, loud=True))
    )
    changed = {name for name in plain if not np.array_equal(plain[name], loud[name])}
    assert changed == {plan.groups[0].members[0].tensor}
    (name,) = changed
    keep = set(plan.cuts[0].keep)
    for place, (before, after) in enumerate(zip(plain[name], loud[name], strict=True)):
        assert np.array_equal(before, after) == (place in keep)
