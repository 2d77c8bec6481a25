"""Cases of If: what always takes one branch is followed, where both branches only move values."""

from __future__ import annotations

import numpy as np
from branches import branch, choose, size_is, there_and_back
from net_builder import Net
from ops.case import CHANNELS, Case

from onnx_scsp.types import FreezeReason

SUBGRAPH = FreezeReason.SUBGRAPH
SAME = ("Identity", None)
TURN = ("Transpose", [0, 1, 3, 2])


def counts_channels(n: Net, x: str) -> str:
    """The condition holds for the number of channels as it is, and for no other."""
    return choose(n, size_is(n, x, 1, CHANNELS), branch(x, TURN), branch(x, SAME))


def is_given(n: Net, x: str) -> str:
    flag = n.const(np.array(False), dtype=np.bool_)
    return choose(n, flag, branch(x, SAME), branch(x, TURN, SAME))


def depends_on_the_batch(n: Net, x: str) -> str:
    return choose(n, size_is(n, x, 0, 7), branch(x, TURN), branch(x, SAME))


def computes(n: Net, x: str) -> str:
    """The branch that never runs does more than move channels."""
    flag = n.const(np.array(True), dtype=np.bool_)
    return choose(n, flag, branch(x, TURN), branch(x, ("Neg", None)))


BRANCHES = [
    Case("If-squeeze", "If", there_and_back),
    Case("If-counts-channels", "If", counts_channels),
    Case("If-given", "If", is_given),
    Case("If-open", "If", depends_on_the_batch, SUBGRAPH),
    Case("If-computes", "If", computes, SUBGRAPH),
]
