"""The plan file: a contract that others read and edit. Strict on the way in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.errors import PlanError
from onnx_scsp.plan.planner import SCHEMA
from onnx_scsp.types import (
    ChannelGroup,
    FreezeReason,
    Frozen,
    GroupCut,
    IntArray,
    Member,
    PrunePlan,
    Reduction,
    Role,
    read_only,
)


def plan_to_json(plan: PrunePlan) -> str:
    """The plan as JSON text, one group per line so that a diff is readable."""
    cuts = {cut.group: cut for cut in plan.cuts}
    head = {"schema": plan.schema, "model_sha256": plan.model_sha256, "config": dict(plan.config)}
    if plan.refit:
        head["refit"] = list(plan.refit)
    if plan.timing:
        head["timing"] = dict(plan.timing)
    groups = [json.dumps(_group(group, cuts.get(group.id))) for group in plan.groups]
    frozen = [json.dumps(_frozen(entry)) for entry in plan.frozen]
    body = json.dumps(head, indent=1)[:-2]
    return (
        body
        + ',\n "groups": [\n  '
        + ",\n  ".join(groups)
        + '\n ],\n "frozen": [\n  '
        + ",\n  ".join(frozen)
        + "\n ]\n}\n"
    )


def _group(group: ChannelGroup, cut: GroupCut | None) -> dict[str, Any]:
    chosen = {"criterion": cut.criterion} if cut and cut.criterion else {}
    return {
        "id": group.id,
        "units": group.n_units,
        "keep": list(cut.keep) if cut else list(range(group.n_units)),
        "absorbed_by": {str(r): s for r, s in cut.absorbed_by.items()} if cut else {},
        "scales": {str(r): s for r, s in cut.scales.items()} if cut else {},
        "score": cut.score if cut else 0.0,
        **chosen,
        "profile": group.profile.tolist(),
        "layers": list(group.layers),
        "homogeneous": group.homogeneous,
        "macs": group.macs,
        "members": [_member(member) for member in group.members],
        **({"reductions": [_reduction(r) for r in group.reductions]} if group.reductions else {}),
    }


def _reduction(reduction: Reduction) -> dict[str, Any]:
    return {
        "value": reduction.value,
        "axis": reduction.axis,
        "use": reduction.use,
        "units": reduction.units.tolist(),
        **({"restricted": True} if reduction.restricted else {}),
    }


def _member(member: Member) -> dict[str, Any]:
    record: dict[str, Any] = {
        "tensor": member.tensor,
        "axis": member.axis,
        "role": member.role.value,
        "units": member.units.tolist(),
    }
    if member.uses:
        record["uses"] = list(member.uses)
    if member.across >= 0:
        record["across"] = member.across
    return record


def _frozen(entry: Frozen) -> dict[str, Any]:
    return {
        "node": entry.node,
        "reason": entry.reason.value,
        "detail": entry.detail,
        "layers": list(entry.layers),
    }


def plan_from_json(text: str, name: str = "the plan") -> PrunePlan:
    """Reads a plan and checks that it agrees with itself.

    Args:
        text: JSON text.
        name: What to call the plan in messages.

    Returns:
        The plan.

    Raises:
        PlanError: The text is no plan, or contradicts itself.
    """
    try:
        data = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise PlanError(
            f"{name} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{name} is not valid JSON: {error}") from error
    if (
        not isinstance(data, dict)
        or not _is_integer(data.get("schema"))
        or (data["schema"] != SCHEMA)
    ):
        raise PlanError(f"{name} is no plan of schema {SCHEMA}; make one with `onnx-scsp plan`")
    try:
        groups = tuple(_read_group(entry, name) for entry in data["groups"])
        cuts = tuple(
            cut
            for cut in (_read_cut(entry, name) for entry in data["groups"])
            if len(cut.keep) < cut.n_units
        )
        frozen = tuple(
            Frozen(
                FreezeReason(entry["reason"]),
                str(entry["node"]),
                str(entry["detail"]),
                tuple(entry.get("layers", ())),
            )
            for entry in data["frozen"]
        )
        config = _read_config(data["config"], name)
        refit = _read_names(data.get("refit", []), name)
        timing = data.get("timing", {})
        if not isinstance(timing, dict):
            raise PlanError(f"{name}: 'timing' is no object")
        plan = PrunePlan(
            SCHEMA, str(data["model_sha256"]), config, cuts, groups, frozen, refit, timing
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PlanError(f"{name} is malformed: {type(error).__name__} at {error}") from error
    ids = [group.id for group in groups]
    if len(set(ids)) != len(ids):
        raise PlanError(f"{name} names a group twice")
    return plan


def read_plan(path: Path) -> PrunePlan:
    """Reads a plan file.

    Raises:
        PlanError: The file is missing, unreadable or no valid plan.
    """
    try:
        return plan_from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PlanError(f"{path} cannot be read: {reason}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that spells a key twice says two things at once."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' occurs twice in one object")
    return result


def _read_config(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options behind the plan; those that carrying it out needs are checked."""
    config = dict(entry)
    ignore = config.get("ignore", [])
    if not isinstance(ignore, list) or not all(isinstance(item, str) for item in ignore):
        raise PlanError(f"{name}: config 'ignore' is no list of patterns")
    if not isinstance(config.get("approximate", False), bool):
        raise PlanError(f"{name}: config 'approximate' is neither true nor false")
    value = config.get("value", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PlanError(f"{name}: config 'value' is no number")
    return config


def _read_names(entry: Any, name: str) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(item, str) for item in entry):
        raise PlanError(f"{name}: 'refit' is no list of tensor names")
    return tuple(entry)


def _read_group(entry: Mapping[str, Any], name: str) -> ChannelGroup:
    where = f"{name}: group {entry['id']}"
    n_units = _integer(entry["units"], where)
    members = tuple(_read_member(member, n_units, entry["id"], name) for member in entry["members"])
    profile = _integers(entry.get("profile", [0] * n_units), where)
    if profile.shape != (n_units,):
        raise PlanError(f"{where} has {n_units} units but another profile length")
    return ChannelGroup(
        id=str(entry["id"]),
        n_units=n_units,
        profile=read_only(profile),
        members=members,
        layers=tuple(entry.get("layers", ())),
        homogeneous=bool(entry.get("homogeneous", False)),
        macs=int(entry.get("macs", 0)),
        reductions=tuple(
            _read_reduction(reduction, n_units, f"{where}, reduction of '{reduction['value']}'")
            for reduction in entry.get("reductions", ())
        ),
    )


def _read_reduction(entry: Mapping[str, Any], n_units: int, where: str) -> Reduction:
    units = _integers(entry["units"], where)
    if units.size and not (units.min() >= -1 and units.max() < n_units):
        raise PlanError(f"{where} names a unit out of range")
    use = str(entry["use"])
    node, _, place = use.partition(":")
    if not (node.isdecimal() and place.isdecimal()):
        raise PlanError(f"{where}: '{use}' is no 'node:input' place")
    restricted = entry.get("restricted", False)
    if not isinstance(restricted, bool):
        raise PlanError(f"{where}: 'restricted' is neither true nor false")
    axis = _integer(entry["axis"], where)
    return Reduction(str(entry["value"]), axis, read_only(units), use, restricted)


def _read_member(entry: Mapping[str, Any], n_units: int, group: str, name: str) -> Member:
    where = f"{name}: group {group}, tensor '{entry['tensor']}'"
    across = _integer(entry.get("across", -1), where)
    units = _parts(entry["units"], where) if across >= 0 else _integers(entry["units"], where)
    if units.size and not (units.min() >= -1 and units.max() < n_units):
        raise PlanError(f"{where} names a unit out of range")
    return Member(
        str(entry["tensor"]),
        _integer(entry["axis"], where),
        Role(entry["role"]),
        read_only(units),
        tuple(str(use) for use in entry.get("uses", ())),
        across,
    )


def _read_cut(entry: Mapping[str, Any], name: str) -> GroupCut:
    where = f"{name}: group {entry['id']}"
    n_units = _integer(entry["units"], where)
    keep = [_integer(unit, where) for unit in entry["keep"]]
    if not keep:
        raise PlanError(f"{where} keeps no unit; keep at least one")
    if sorted(set(keep)) != sorted(keep) or not all(0 <= unit < n_units for unit in keep):
        raise PlanError(f"{where}: 'keep' names a unit twice or out of range 0..{n_units - 1}")
    kept = set(keep)
    absorbed = {
        _unit_key(r, where): _integer(s, where)
        for r, s in dict(entry.get("absorbed_by", {})).items()
    }
    for removed, survivor in absorbed.items():
        if removed in kept or not 0 <= removed < n_units or survivor not in kept:
            raise PlanError(
                f"{where}: absorbed_by {removed} -> {survivor} contradicts 'keep' "
                "(a removed unit is taken over by a kept one)"
            )
    scales = {
        _unit_key(r, where): _number(s, where) for r, s in dict(entry.get("scales", {})).items()
    }
    if not set(scales) <= set(absorbed) or not all(np.isfinite(s) for s in scales.values()):
        raise PlanError(f"{where}: 'scales' names a unit that nothing absorbs, or is not finite")
    return GroupCut(
        str(entry["id"]),
        n_units,
        tuple(sorted(keep)),
        absorbed,
        scales,
        float(entry.get("score", 0)),
        str(entry.get("criterion", "")),
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(value: Any, where: str) -> int:
    if not _is_integer(value):
        raise PlanError(f"{where}: '{value}' is no whole number")
    return int(value)


def _integers(values: Any, where: str) -> IntArray:
    if not isinstance(values, list):
        raise PlanError(f"{where}: '{values}' is no list of whole numbers")
    return np.array([_integer(value, where) for value in values], np.int64)


def _parts(values: Any, where: str) -> IntArray:
    """Rows of whole numbers, all of one length."""
    if not isinstance(values, list) or not values:
        raise PlanError(f"{where}: '{values}' is no list of rows")
    rows = [_integers(row, where) for row in values]
    if len({row.size for row in rows}) != 1:
        raise PlanError(f"{where}: rows of 'units' differ in length")
    return np.stack(rows)


def _unit_key(key: str, where: str) -> int:
    """JSON keys are text: a unit number as digits, without sign, blanks or leading zeros."""
    if not key.isdecimal() or str(int(key)) != key:
        raise PlanError(f"{where}: '{key}' is no unit number")
    return int(key)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PlanError(f"{where}: '{value}' is no number")
    return float(value)
