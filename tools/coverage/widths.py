"""How many filters the layers of a network keep, whoever cut it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Widths = Mapping[str, int]
"""Name of a layer's node -> its filters."""


def widths_kept(before: Widths, after: Widths, ratio: float) -> dict[str, Any]:
    """What became of the layers that both files name alike.

    Args:
        before: Filters before.
        after: Filters after.
        ratio: Share that the tool was asked to keep.

    Returns:
        `matched` layers, their `channels_left` (a share), how many are `overcut` (they keep fewer
        than the share asked for, rounded down) and how many `uncut`, and the `least` share that a
        layer keeps, with its name.
    """
    names = [name for name in before if name in after]
    if not names:
        return {"matched": 0}
    share = {name: after[name] / before[name] for name in names}
    narrowest = min(names, key=lambda name: share[name])
    return {
        "matched": len(names),
        "channels_left": sum(after[n] for n in names) / sum(before[n] for n in names),
        "overcut": sum(after[n] < math.floor(ratio * before[n]) for n in names),
        "uncut": sum(after[n] == before[n] for n in names),
        "least": [round(share[narrowest], 4), narrowest],
    }
