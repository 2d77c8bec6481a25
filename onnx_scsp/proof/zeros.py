"""Zeros for what a plan removes, where a node runs over channels without a weight.

A mean, a maximum or a product of two activations has no slices that a twin could set to zero; there
the entries themselves are. Which ones, the plan says.
"""

from __future__ import annotations

import numpy as np
import onnx

from onnx_scsp.graph.model import Model
from onnx_scsp.graph.view import view
from onnx_scsp.graph.zeroing import Zeroed, zero_entries
from onnx_scsp.types import PrunePlan


def zero_reductions(twin: onnx.ModelProto, model: Model, plan: PrunePlan) -> None:
    """Lets every reduction that the plan touches see zeros for what goes, in place.

    Args:
        twin: A variant of the original; values have the names that they have there.
        model: The original.
        plan: The plan.
    """
    nodes = view(model.proto).nodes
    groups = {group.id: group for group in plan.groups}
    places: dict[tuple[str, int], Zeroed] = {}
    for cut in plan.cuts:
        for reduction in groups[cut.group].reductions:
            number, place = (int(part) for part in reduction.use.split(":"))
            stays = (reduction.units < 0) | np.isin(reduction.units, cut.keep)
            key = (nodes[number].outputs[0], place)
            if key in places:  # channels of several groups
                stays = stays & places[key].stays
            if not stays.all():
                places[key] = Zeroed(reduction.axis, stays)
    zero_entries(twin, places)
