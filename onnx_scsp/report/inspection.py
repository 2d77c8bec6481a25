"""What `inspect` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onnx_scsp.types import Chain, ChannelGroup, FreezeReason, Frozen, GroupMap, Layer


def inspection_json(found: GroupMap) -> dict[str, Any]:
    """Everything that coupling found."""
    held = held_layers(found)
    return {
        "model_sha256": found.model_sha256,
        "macs": found.macs,
        "params": found.params,
        "floor_macs": found.floor_macs,
        "floor": found.floor_macs / found.macs if found.macs else 1.0,
        "chains": [_chain(chain) for chain in found.chains],
        "groups": [_group(group, found.macs) for group in found.groups],
        "not_prunable": [
            {
                "layer": layer.node,
                "op": layer.op_type,
                "channels": layer.channels,
                "held": layer.channels - layer.free,
                "macs": layer.macs,
                "reasons": [
                    {"reason": f.reason.value, "node": f.node, "detail": f.detail} for f in reasons
                ],
            }
            for layer, reasons in held
        ],
        "obstacles": [
            {
                "reason": entry.reason.value,
                "node": entry.node,
                "detail": entry.detail,
                "layers": list(entry.layers),
                "macs": found.macs_at_stake(entry),
                "macs_share": found.macs_at_stake(entry) / found.macs if found.macs else 0.0,
            }
            for entry in obstacles(found)
        ],
        "ops_without_rule": list(found.ops_without_rule),
    }


def _chain(chain: Chain) -> dict[str, Any]:
    return {
        "node": chain.node,
        "op": chain.op_type,
        "norm": chain.norm,
        "activation": chain.activation,
        "weight": chain.weight,
    }


def _group(group: ChannelGroup, macs: int) -> dict[str, Any]:
    return {
        "id": group.id,
        "units": group.n_units,
        "profiles": int(group.profile.max()) + 1,
        "layers": list(group.layers),
        "macs": group.macs,
        "macs_share": group.macs / macs if macs else 0.0,
        "members": [
            {"tensor": m.tensor, "axis": m.axis, "role": m.role.value} for m in group.members
        ],
        "reductions": [{"value": r.value, "axis": r.axis, "use": r.use} for r in group.reductions],
    }


def held_layers(found: GroupMap) -> list[tuple[Layer, list[Frozen]]]:
    """Layers some of whose channels stay, each with its reasons."""
    return [
        (layer, [frozen for frozen in found.frozen if layer.node in frozen.layers])
        for layer in found.layers
        if layer.free < layer.channels
    ]


def obstacles(found: GroupMap) -> list[Frozen]:
    """What blocks channels, by the MACs of the layers that it blocks, most first."""
    return sorted(found.frozen, key=found.macs_at_stake, reverse=True)


def inspection_tables(found: GroupMap, name: str) -> Iterable[Table | Text]:
    """Groups, chains, layers that stay, totals."""
    yield _chain_table(found)
    yield _group_table(found)
    held = held_layers(found)
    if held:
        yield _held_table(found, held)
    if found.ops_without_rule:
        yield _unknown_table(found)
    yield Text(_totals(found, name))


def _chain_table(found: GroupMap) -> Table:
    table = Table(title="Chains", title_justify="left")
    for column in ("layer", "op", "normalisation", "activation"):
        table.add_column(column, overflow="fold")
    for column in ("channels", "MACs", "groups"):
        table.add_column(column, justify="right")
    by_node = {layer.node: layer for layer in found.layers}
    for chain in found.chains:
        layer = by_node[chain.node]
        table.add_row(
            escape(chain.node),
            chain.op_type,
            escape(chain.norm) or "-",
            chain.activation or "-",
            str(layer.channels),
            f"{layer.macs:,}",
            " ".join(layer.groups) or "-",
        )
    return table


def _group_table(found: GroupMap) -> Table:
    table = Table(title="Groups of coupled channels", title_justify="left")
    table.add_column("group")
    for column in ("units", "profiles", "makes", "scales", "reads", "MACs share"):
        table.add_column(column, justify="right")
    table.add_column("made by", overflow="fold")
    for group in found.groups:
        roles = [member.role.value for member in group.members]
        table.add_row(
            group.id,
            str(group.n_units),
            str(int(group.profile.max()) + 1),
            *(str(roles.count(role)) for role in ("makes", "scales", "reads")),
            f"{group.macs / max(found.macs, 1):.1%}",
            escape(_shorten(group.layers)),
        )
    return table


def _held_table(found: GroupMap, held: list[tuple[Layer, list[Frozen]]]) -> Table:
    table = Table(title="Channels that stay, and why", title_justify="left")
    table.add_column("layer", overflow="fold")
    for column in ("held", "MACs share"):
        table.add_column(column, justify="right")
    for column in ("reason", "blocked by", "what it does"):
        table.add_column(column, overflow="fold")
    for layer, reasons in held:
        for place, frozen in enumerate(reasons[:3]):
            more = f" (and {len(reasons) - 3} more)" if place == 2 and len(reasons) > 3 else ""
            table.add_row(
                escape(layer.node) if place == 0 else "",
                f"{layer.channels - layer.free} of {layer.channels}" if place == 0 else "",
                f"{layer.macs / max(found.macs, 1):.1%}" if place == 0 else "",
                frozen.reason.value,
                escape(frozen.node),
                escape(frozen.detail) + more,
            )
    return table


def _unknown_table(found: GroupMap) -> Table:
    title = "Operators without a rule (docs/coupling.md shows how to add one)"
    table = Table(title=title, title_justify="left")
    for column in ("node", "layers it blocks"):
        table.add_column(column, overflow="fold")
    table.add_column("their MACs share", justify="right")
    for entry in obstacles(found):
        if entry.reason is FreezeReason.NO_RULE:
            share = found.macs_at_stake(entry) / max(found.macs, 1)
            table.add_row(escape(entry.node), escape(_shorten(entry.layers)), f"{share:.1%}")
    return table


def _shorten(names: tuple[str, ...], most: int = 3) -> str:
    head = ", ".join(names[:most])
    return head + (f" and {len(names) - most} more" if len(names) > most else "")


def _totals(found: GroupMap, name: str) -> str:
    floor = found.floor_macs / found.macs if found.macs else 1.0
    text = (
        f"{name}: {found.macs:,} MACs, {found.params:,} parameters, {len(found.groups)} groups; "
        f"with as few channels as leave no layer empty, {floor:.1%} of the MACs remain"
    )
    if found.ops_without_rule:
        text += f"; operators without a rule: {', '.join(found.ops_without_rule)}"
    return text
