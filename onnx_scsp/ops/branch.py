"""Ifs that always take the same branch, which only moves channels (see `graph.branches`).

The node stays as it is. Its condition may be a number of channels, though: where the cut would
change it, the value that it had takes its place.
"""

from __future__ import annotations

from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason


def _if(site: Site) -> None:
    routes, known = site.facts.routes[site.node.index], site.facts.activations
    if any(route.source not in known for route in routes):
        detail = "hands channels to a subgraph, beside values without"
        for name in site.node.captured:
            if name in known:
                site.freeze(known[name].labels, FreezeReason.SUBGRAPH, detail)
        site.emit_frozen(FreezeReason.SUBGRAPH, detail)
        return
    for index, route in enumerate(routes):
        site.emit(route.apply(known[route.source].labels), index)


def _mend_if(mend: Mend) -> None:
    before, known = mend.before.get(mend.node.inputs[0]), mend.known(0)
    same = known is not None and known.static.all() and bool(known.value.all()) == bool(before)
    if before is not None and not same:
        mend.inputs[0] = before


RULES = (
    OpRule(
        ("If",),
        _if,
        "passes where it always takes one branch and both only move values, else they stay",
        _mend_if,
    ),
)
