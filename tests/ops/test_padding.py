"""Padding by copies at the rim: few channels are copied, so the counts are uneven."""

from __future__ import annotations

from pathlib import Path

import independent_twin
import onnx
import pytest
from ops.case import CHANNELS, Case
from ops.more_cases import padded

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import find_groups
from onnx_scsp.graph.load import load
from onnx_scsp.pipeline import prune
from onnx_scsp.types import FreezeReason


@pytest.mark.parametrize("method", ["scsp", "l2", "random"])
@pytest.mark.parametrize(("before", "after", "mode"), [
    (2, 1, "edge"), (0, 3, "edge"), (3, 2, "reflect"), (4, 0, "reflect"), (0, 5, "reflect"),
])  # fmt: skip
def test_copies_follow_their_channels(
    before: int, after: int, mode: str, method: str, tmp_path: Path
) -> None:
    source, output, plan = (tmp_path / name for name in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(Case("pad", "Pad", padded(before, after, mode)).build(), str(source))
    config = PruneConfig(target="ratio", value=0.5, align=1, compensate="none", method=method)
    result = prune(source, output, config, plan_out=plan)
    assert result.layers["Conv0"][1] < CHANNELS
    assert independent_twin.compare(source, output, plan).error <= 1e-4


def test_the_mirror_of_a_reflection_stays(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(Case("pad", "Pad", padded(3, 0, "reflect")).build(), str(source))
    found = find_groups(load(source))
    assert next(layer.free for layer in found.layers if layer.node == "Conv0") == CHANNELS - 1
    reasons = {f.reason for f in found.frozen if "Conv0" in f.layers and "(Pad)" in f.node}
    assert reasons == {FreezeReason.MIXES_CHANNELS}
