"""LSTM, GRU and RNN: their input channels are read; the recurrent state keeps its width."""

from __future__ import annotations

import numpy as np

from onnx_scsp.ops.blocking import block, freeze_inputs
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason

_STAYS = "the recurrent state's width is fixed"


def _recurrent(site: Site) -> None:
    """X is (sequence, batch, input), or batch first; W (directions, gates x hidden, input)."""
    if not (site.is_const(1) and site.is_const(2)) or site.is_const(0):
        block(site, "its weights are computed at run time", FreezeReason.COMPUTED_WEIGHT)
        return
    x, shape = site.x(0), site.shape(1)
    directions, rows, width = shape[0], shape[1], site.shape(2)[-1]
    freeze_inputs(site, (0,), _STAYS, FreezeReason.MIXES_CHANNELS)
    read = site.vector(x, 2)
    site.reads(1, 2, read)
    steps = float(np.prod(x.shape[:2]) * directions * rows)
    site.cost(steps, read)
    site.cost(steps * width)
    site.emit_frozen(FreezeReason.MIXES_CHANNELS, _STAYS)
    site.hold(directions * width, FreezeReason.MIXES_CHANNELS, _STAYS)


RULES = (OpRule(("LSTM", "GRU", "RNN"), _recurrent, "reads channels; its own state stays"),)
