"""Holding everything that touches a node, for rules that meet what they cannot follow."""

from __future__ import annotations

from collections.abc import Collection

from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason


def block(site: Site, detail: str, reason: FreezeReason = FreezeReason.MIXES_CHANNELS) -> None:
    """Freezes all inputs and outputs of the node.

    Args:
        site: The node.
        detail: What it does with channels.
        reason: The kind of obstacle.
    """
    freeze_inputs(site, (), detail, reason)
    site.emit_frozen(reason, detail)


def freeze_inputs(site: Site, followed: Collection[int], detail: str, reason: FreezeReason) -> None:
    """Freezes the activations among the inputs, except those that the rule follows.

    Args:
        site: The node.
        followed: Indices of inputs that the rule takes care of.
        detail: What the node does with the others.
        reason: The kind of obstacle.
    """
    for index, name in enumerate(site.node.inputs):
        if name in site.facts.activations and index not in followed:
            site.freeze(site.x(index).labels, reason, detail)


def block_unknown(site: Site, index: int) -> bool:
    """Freezes channels where an input that spells their number is unknown before run time.

    Args:
        site: The node.
        index: The input.

    Returns:
        Whether the node is blocked.
    """
    if site.knows(index) or not site.x(0).varying:
        return False
    detail = f"'{site.node.inputs[index]}', which spells its sizes, is unknown before run time"
    block(site, detail, FreezeReason.DYNAMIC_VALUE)
    return True
