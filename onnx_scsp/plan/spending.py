"""What a step is charged with when steps compete for a budget: the budget's own units, time, both.

A budget in MACs says how many may stay and not where they are best saved: at equal MACs, a channel
that passes through depthwise layers, products and sums as well takes more of the runtime's time
than one that a single convolution reads. Damage is therefore weighed against

    price(k) = (1 - s) cost(k) / cost(all) + s ms(k) / ms(all)

with s = 0 (`budget`), 4/5 (`both`), 1 (`time`). Whether the budget is met, cost alone decides.

    ms(k) = sum_layer (rate(kind) MACs(k) + rate_weight weights(k)) + sum_pass rate_value values(k)

is an estimate by the machine table (`onnx_scsp.timing.rates`); nothing is measured for it, so that
a plan depends on model, options and table alone. A pass is an operator that is no layer and writes
values of its own; what the runtime merges into the layer before (activations, normalisation) or
does without touching values (Reshape) is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

import numpy as np

from onnx_scsp.config import BOTH, BUDGET, TIME
from onnx_scsp.couple import Coupling
from onnx_scsp.plan.cost import CostModel, Costs, Pool
from onnx_scsp.plan.latency import channel_units
from onnx_scsp.plan.widths import layer_kinds
from onnx_scsp.timing import MachineTable, rates
from onnx_scsp.types import FloatArray, IntArray

SHARES: Mapping[str, float] = MappingProxyType({BUDGET: 0.0, BOTH: 0.8, TIME: 1.0})
"""Name of a way to spend -> share of the time in a step's price."""
_NO_PASS = frozenset(
    (
        "BatchNormalization Cast Clip Constant Dropout Flatten Gather HardSigmoid Identity "
        "LeakyRelu PRelu Relu Reshape Shape Sigmoid Squeeze Tanh Unsqueeze"
    ).split()
)


class PricedCost:
    """Counts what the budget counts, and charges steps with time as well."""

    def __init__(self, budget: Costs, time: Costs, share: float, pools: list[Pool]) -> None:
        whole = np.array([pool.size for pool in pools], float)
        self._budget, self._time = budget, time
        self._per_cost = (1.0 - share) / max(budget.total(whole), 1e-300)
        self._per_ms = share / max(time.total(whole), 1e-300)

    def total(self, k: FloatArray) -> float:
        """Cost, in the budget's units."""
        return self._budget.total(k)

    def gradient(self, k: FloatArray) -> FloatArray:
        """Derivative of the price by each pool's count."""
        return np.asarray(
            self._per_cost * self._budget.gradient(k) + self._per_ms * self._time.gradient(k)
        )


def priced(
    budget: Costs, spend_by: str, coupling: Coupling, pools: list[Pool], table: MachineTable
) -> Costs:
    """A budget's cost with the price that `spend_by` names.

    Args:
        budget: What the budget counts.
        spend_by: A name of `SHARES`.
        coupling: The model.
        pools: The pools.
        table: What layers take.

    Returns:
        The cost.
    """
    share = SHARES[spend_by]
    if not share:
        return budget
    return PricedCost(budget, time_model(coupling, pools, table), share, pools)


def time_model(coupling: Coupling, pools: list[Pool], table: MachineTable) -> CostModel:
    """Estimated milliseconds of layers and passes as a function of the pools' counts."""
    found, kinds = rates(table), layer_kinds(coupling)
    weights = _weights(coupling)
    terms: list[tuple[float, tuple[IntArray, ...]]] = []
    for term in coupling.costs:
        ms = found.per_mac[kinds[term.node].kind] * term.macs
        ms += found.per_weight * weights[term.node]
        size = float(np.prod([vector.size for vector in term.vectors]))
        terms.append((ms / size, term.vectors))
    shapes = coupling.walk.walker.shapes
    for node in coupling.walk.graph.nodes:
        if node.name in kinds or node.op_type in _NO_PASS:
            continue
        for value in node.outputs:
            units = channel_units(coupling, value)
            if units is not None:
                values = float(np.prod(np.array(shapes[value], float)))
                terms.append((found.per_value * values / units.size, (units,)))
    return CostModel(terms, pools, coupling.n_units)


def _weights(coupling: Coupling) -> dict[str, int]:
    """Node that costs MACs -> how many constants it multiplies with."""
    nodes = {node.name: node for node in coupling.walk.graph.nodes}
    constants = coupling.walk.constants
    return {
        term.node: sum(
            prod(constants.shape(name)) for name in nodes[term.node].inputs[:2] if name in constants
        )
        for term in coupling.costs
    }
